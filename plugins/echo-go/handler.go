// Answers with the same bytes.
package main

import (
	"io"

	"plugsock"
)

type echo struct{}

func (echo) Handle(r *plugsock.Request) error {
	_, err := io.Copy(r.Wfile, r.Rfile)
	return err
}

func init() {
	plugsock.Serve(echo{})
}

func main() {}
