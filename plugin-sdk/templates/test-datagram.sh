# Sends the handler a packet, which has to answer with its length.
set -eu
answer=$(printf hello | "${PLUGSOCK:-plugsock}" call --datagram build/handler.wasm)
[ "$answer" = "5 bytes" ] || { echo "the handler answered \"$answer\"" >&2; exit 1; }
echo "ok: it answered \"$answer\""
