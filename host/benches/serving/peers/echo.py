"""Echo with one of socketserver's classes: echo.py CLASS REQUEST_QUEUE_SIZE"""

import socketserver
import sys

BLOCK = 64 * 1024


class EchoStream(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(BLOCK):
            self.request.sendall(data)


class EchoDatagram(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        sock.sendto(data, self.client_address)


server_class = getattr(socketserver, sys.argv[1])
server_class.request_queue_size = int(sys.argv[2])
is_datagram = issubclass(server_class, socketserver.UDPServer)
with server_class(("127.0.0.1", 0), EchoDatagram if is_datagram else EchoStream) as server:
    host, port = server.server_address
    print(f"ready {'udp' if is_datagram else 'tcp'}://{host}:{port}", flush=True)
    server.serve_forever()
