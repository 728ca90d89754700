# Makes build/handler.wasm.
build/handler.wasm: handler.go go.mod
	GOOS=wasip1 GOARCH=wasm go build -ldflags='-s -w' -o $@

test: build/handler.wasm
	sh test.sh

clean:
	rm -rf build

.PHONY: test clean
