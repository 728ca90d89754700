// Answers with a packet's length.
package main

import (
	"fmt"
	"io"

	"plugsock"
)

type length struct{}

func (length) Handle(r *plugsock.Request) error {
	packet, err := io.ReadAll(r.Rfile)
	if err == nil {
		_, err = fmt.Fprintf(r.Wfile, "%d bytes", len(packet))
	}
	return err
}

func init() {
	plugsock.Serve(length{})
}

func main() {}
