"""Answers with the same bytes: standard input and output are the connection."""

import sys


class Run:
    def run(self):
        while data := sys.stdin.buffer.read1():
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
