# Makes build/handler.wasm.
build/handler.wasm: handler.py proxy.wit
	mkdir -p build
	componentize-py -d proxy.wit -w proxy componentize handler -p . -o $@

test: build/handler.wasm
	sh test.sh

clean:
	rm -rf build

.PHONY: test clean
