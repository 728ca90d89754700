// Keeps all of its input in pieces, has the collector run, and writes it back.
package main

import (
	"bufio"
	"io"
	"os"
	"runtime"
)

func main() {
	pieces := map[int][]byte{}
	for {
		piece := make([]byte, 4096)
		length, err := io.ReadFull(os.Stdin, piece)
		pieces[len(pieces)] = piece[:length]
		if err != nil {
			break
		}
	}
	runtime.GC()
	output := bufio.NewWriter(os.Stdout)
	for number := range len(pieces) {
		output.Write(pieces[number])
	}
	if output.Flush() != nil {
		os.Exit(1)
	}
}
