// Keeps all that its client sends in pieces, has the collector run, and sends it back.
package main

import (
	"io"
	"runtime"

	"plugsock"
)

type hoard struct{}

func (hoard) Handle(r *plugsock.Request) error {
	pieces := map[int][]byte{}
	for {
		piece := make([]byte, 4096)
		length, err := io.ReadFull(r.Rfile, piece)
		pieces[len(pieces)] = piece[:length]
		if err != nil {
			break
		}
	}
	runtime.GC()
	for number := range len(pieces) {
		if _, err := r.Wfile.Write(pieces[number]); err != nil {
			return err
		}
	}
	return nil
}

func init() {
	plugsock.Serve(hoard{})
}

func main() {}
