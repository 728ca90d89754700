"""Runs a program for WASI preview 1 with plain Wasmtime, with the grants that `plugsock serve` would give it.

    plain.py [--dir HOST::GUEST[:rw]]... [--env NAME=VALUE]... FILE [-- ARGUMENT...]
"""

import argparse
import sys

from wasmtime import Config, Engine, ExitTrap, Linker, Module, Store, Trap, WasiConfig

parser = argparse.ArgumentParser()
parser.add_argument("--dir", action="append", default=[])
parser.add_argument("--env", action="append", default=[])
parser.add_argument("file")
parser.add_argument("arguments", nargs="*")
given = parser.parse_args()

wasi = WasiConfig()
wasi.inherit_stdin()
wasi.inherit_stdout()
wasi.inherit_stderr()
wasi.argv = [given.file.rpartition("/")[2], *given.arguments]
wasi.env = [variable.split("=", 1) for variable in given.env]
for directory in given.dir:
    host, guest = directory.removesuffix(":rw").split("::")
    wasi.preopen_dir(host, guest, directory.endswith(":rw"))

config = Config()
config.wasm_exceptions = True
config.cache = True
engine = Engine(config)
store = Store(engine)
store.set_wasi(wasi)
linker = Linker(engine)
linker.define_wasi()
instance = linker.instantiate(store, Module.from_file(engine, given.file))
try:
    instance.exports(store)["_start"](store)
except ExitTrap as exit:
    sys.exit(exit.code)
except Trap as trap:
    print(trap, file=sys.stderr)
    sys.exit(134)
