"""Answers with the same bytes."""

from plugsock import StreamRequestHandler, export


class Echo(StreamRequestHandler):
    def handle(self):
        while data := self.rfile.read1():
            self.wfile.write(data)


RequestHandler = export(Echo)
