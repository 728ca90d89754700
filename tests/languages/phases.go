// Fails in the phase that the first line names, or starts TLS and answers with the same bytes.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

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
	if identity, ok := strings.CutPrefix(p.line, "STARTTLS"); ok {
		return startTLS(r, strings.TrimSpace(identity))
	}
	fmt.Fprintln(r.Wfile, "handle")
	return p.failIn("handle\n")
}

func (p *phases) Finish(r *plugsock.Request) error {
	fmt.Fprintln(r.Wfile, "finish")
	return p.failIn("finish\n")
}

func startTLS(r *plugsock.Request, identity string) error {
	fmt.Fprintln(r.Wfile, "go ahead")
	tls, err := r.StartTLS(plugsock.TLSConfig{Identity: identity, NextProtos: []string{"echo"}})
	if err != nil {
		return err
	}
	serverName, alpn := cmp.Or(tls.ServerName, "-"), cmp.Or(tls.NegotiatedProtocol, "-")
	fmt.Fprintln(r.Wfile, "tls", tls.Protocol, tls.CipherSuite, serverName, alpn)
	if names := tls.ClientNames; len(names) > 0 {
		length := 0
		for _, certificate := range tls.ClientCertificates {
			length += len(certificate)
		}
		fmt.Fprintln(r.Wfile, "client", len(tls.ClientCertificates), length, names[len(names)-1])
	}
	_, err = io.Copy(r.Wfile, r.Rfile)
	return err
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
