"""A client of the handlers beside this: `starttls.py PORT SERVER_NAME WAY CERTIFICATE KEY` behaves in one way."""

import socket
import ssl
import sys

port, server_name, way, certificate, key = sys.argv[1:]
PATIENCE = 60


class Client:
    """TLS over buffers, so that one can close one's own direction and go on reading."""

    def __init__(self, command, protocols=("other", "echo"), key=None):
        self.socket = socket.create_connection(("127.0.0.1", int(port)), PATIENCE)
        self.socket.sendall(command)
        self.expect(self.socket.recv, b"go ahead\n")
        context = ssl.create_default_context(cafile=certificate)
        context.set_alpn_protocols(list(protocols))
        if key is not None:
            context.load_cert_chain(certificate, key)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=server_name)

    def expect(self, receive, wanted):
        received = b""
        while len(received) < len(wanted):
            data = receive(len(wanted) - len(received))
            assert data, f"the end came after {received}, and not {wanted}"
            received += data
        assert received == wanted, f"{received}, and not {wanted}"

    def call(self, operation, *arguments):
        while True:
            try:
                result = operation(*arguments)
            except ssl.SSLWantReadError:
                self.flush()
                data = self.socket.recv(65536)
                self.incoming.write(data) if data else self.incoming.write_eof()
            else:
                self.flush()
                return result

    def flush(self):
        self.socket.sendall(self.outgoing.read())

    def read(self, size):
        return self.call(self.tls.read, size)

    def greet(self):
        self.call(self.tls.do_handshake)
        name, protocol, _ = self.tls.cipher()
        assert self.tls.selected_alpn_protocol() == "echo"
        self.expect(self.read, f"tls {protocol} {name} {server_name} echo\n".encode())

    def echo(self):
        data = bytes(range(251)) * 80
        for _ in range(10):
            self.call(self.tls.write, data)
            self.expect(self.read, data)

    def half_close(self):
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            # It has said that it is at its end, and waits for the other to say so.
            self.flush()

    def expect_end(self):
        try:
            data = self.read(1)
        except ssl.SSLZeroReturnError:
            data = b""
        assert data == b"", data


def in_der(path):
    with open(path) as file:
        return ssl.PEM_cert_to_DER_cert(file.read())


def echoes(command, key=None):
    client = Client(command, key=key)
    client.greet()
    if key is not None:
        client.expect(client.read, f"client 1 {len(in_der(certificate))} {server_name}\n".encode())
    client.echo()
    client.half_close()
    client.expect(client.read, b"finish\n")
    client.expect_end()


match way:
    case "echoes":
        echoes(b"STARTTLS\n")
    case "echoes named":
        echoes(b"STARTTLS test\n")
    case "shows a certificate":
        echoes(b"STARTTLS\n", key)
    case "ends without notice":
        client = Client(b"STARTTLS\n")
        client.greet()
        client.echo()
        client.socket.shutdown(socket.SHUT_WR)
        while client.socket.recv(65536):
            pass
    case "another name":
        client = Client(b"STARTTLS nobody\n")
        client.expect(client.socket.recv, b"finish\n")
    case "speaks too early":
        client = Client(b"STARTTLS\nand more")
        assert client.socket.recv(1) == b"", "it should have been closed"
    case "has no protocol in common":
        client = Client(b"STARTTLS\n", ["other"])
        try:
            client.call(client.tls.do_handshake)
        except ssl.SSLError as error:
            assert "no application protocol" in str(error), error
        else:
            sys.exit("it should have been refused")
    case "is protected already":
        context = ssl.create_default_context(cafile=certificate)
        with socket.create_connection(("127.0.0.1", int(port)), PATIENCE) as plain:
            with context.wrap_socket(plain, server_hostname=server_name) as tls:
                # What has come is protected, so that it may well be left unread.
                tls.sendall(b"STARTTLS\nand more")
                with tls.makefile("rb") as file:
                    assert file.read() == b"go ahead\nfinish\n"
    case _:
        sys.exit(f"what is {way!r}?")
