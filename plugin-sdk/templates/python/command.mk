# Makes build/handler.wasm.
build/handler.wasm: handler.py program.wit
	mkdir -p build
	componentize-py -d program.wit -w program componentize handler -p . -o $@

test: build/handler.wasm
	sh test.sh

clean:
	rm -rf build

.PHONY: test clean
