# Makes build/handler.wasm with any clang that has wasi-libc; zig brings both.
CC = zig cc
CFLAGS = --target=wasm32-wasi -Os -Wall -Wextra
# The small stack keeps an instance in little memory; deep recursion and large arrays need a larger one.
LDFLAGS = -s -Wl,-z,stack-size=32768

build/handler.wasm: handler.c
	mkdir -p build
	$(CC) $(CFLAGS) $(LDFLAGS) handler.c -o $@

test: build/handler.wasm
	sh test.sh

clean:
	rm -rf build

.PHONY: test clean
