"""A server of TLS for the tests: `server.py MODE CERTIFICATE KEY` says its port and serves until it is killed."""

import socket
import ssl
import sys
import threading

mode, certificate, key = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)


def wrapped(connection):
    # So that an end without close_notify is an error here, too.
    return context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False)


def read_all(tls):
    data = b""
    while some := tls.recv(65536):
        data += some
    return data


def echo(connection):
    tls = wrapped(connection)
    while some := tls.recv(65536):
        tls.sendall(some)
    tls.unwrap().close()


def answer(connection):
    """Hears the client out before it answers."""
    tls = wrapped(connection)
    asked = read_all(tls)
    tls.sendall(b"answer to " + asked)
    tls.unwrap().close()


def page(connection):
    """Answers HTTP with the request's line, its host and its body; for /cut it says no length, and breaks off."""
    with wrapped(connection) as tls, tls.makefile("rwb") as stream:
        line, headers = stream.readline(), {}
        while header := stream.readline().decode().rstrip():
            name, value = header.split(": ", 1)
            headers[name.lower()] = value
        body = b""
        while "transfer-encoding" in headers and (length := int(stream.readline(), 16)):
            body += stream.read(length)
            stream.readline()
        text = line + headers["host"].encode() + b"\n" + body
        length = b"" if b" /cut " in line else b"Content-Length: %d\r\n" % len(text)
        stream.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n%s\r\n" % length + text)


def break_off(connection):
    """Goes without close_notify."""
    tls = wrapped(connection)
    tls.sendall(b"half of")
    tls.close()


def greet(connection):
    """Speaks first, ends, and listens on; says on standard output what it hears."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)

    def until_done(step):
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                connection.sendall(outgoing.read())
                some = connection.recv(65536)
                incoming.write(some) if some else incoming.write_eof()
            finally:
                connection.sendall(outgoing.read())

    until_done(tls.do_handshake)
    tls.write(b"greeting")
    try:
        tls.unwrap()
    except ssl.SSLWantReadError:
        pass
    connection.sendall(outgoing.read())
    heard = b""
    try:
        while some := until_done(tls.read):
            heard += some
    except ssl.SSLZeroReturnError:
        pass
    print(f"heard {heard.decode()}", flush=True)
    connection.close()


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    threading.Thread(target=globals()[mode], args=[connection], daemon=True).start()
