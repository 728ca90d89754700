// Fails in the phase that the first line names.
package main

import (
	"errors"
	"fmt"

	"plugsock"
)

type phases struct {
	line string
}

func (p *phases) Setup(r *plugsock.Request) (err error) {
	if p.line, err = r.Rfile.ReadString('\n'); err != nil {
		return err
	}
	return p.failIn("setup\n")
}

func (p *phases) Handle(r *plugsock.Request) error {
	fmt.Fprintln(r.Wfile, "handle")
	return p.failIn("handle\n")
}

func (p *phases) Finish(r *plugsock.Request) error {
	fmt.Fprintln(r.Wfile, "finish")
	return p.failIn("finish\n")
}

func (p *phases) failIn(phase string) error {
	if p.line == phase {
		return errors.New("as asked")
	}
	return nil
}

func init() {
	plugsock.Serve(&phases{})
}

func main() {}
