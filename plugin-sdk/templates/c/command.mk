# Makes build/handler.wasm with any clang that has wasi-libc; zig brings both.
CC = zig cc
CFLAGS = --target=wasm32-wasi -Os -Wall -Wextra

build/handler.wasm: handler.c
	mkdir -p build
	$(CC) $(CFLAGS) -s handler.c -o $@

test: build/handler.wasm
	sh test.sh

clean:
	rm -rf build

.PHONY: test clean
