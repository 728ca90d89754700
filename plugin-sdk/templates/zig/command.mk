# Makes build/handler.wasm, a module for WASI preview 1.
# The small stack keeps an instance in little memory; deep recursion and large arrays need a larger one.
ZIGFLAGS = -target wasm32-wasi -O ReleaseSmall --stack 32768

build/handler.wasm: handler.zig
	mkdir -p build
	zig build-exe $(ZIGFLAGS) -femit-bin=$@ handler.zig

test: build/handler.wasm
	sh test.sh

clean:
	rm -rf build

.PHONY: test clean
