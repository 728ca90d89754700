# Sends the handler a request, which has to be answered with the same bytes.
set -eu
request='POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello'
answer=$(printf "$request" | "${PLUGSOCK:-plugsock}" call build/handler.wasm | tail -n 1)
[ "$answer" = hello ] || { echo "the handler answered \"$answer\"" >&2; exit 1; }
echo "ok: it answered \"$answer\""
