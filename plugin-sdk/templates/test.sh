# Asks the handler, which has to answer with the same bytes.
set -eu
answer=$(echo hello | "${PLUGSOCK:-plugsock}" call build/handler.wasm)
[ "$answer" = hello ] || { echo "the handler answered \"$answer\"" >&2; exit 1; }
echo "ok: it answered \"$answer\""
