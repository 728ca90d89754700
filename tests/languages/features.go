// Does what the first words of its client ask for, by all that the contract has besides reading and writing, and
// answers with the same bytes otherwise. The hooks say that they were called.
package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"plugsock"
	"plugsock/hooks"
)

type features struct{}

func (features) Handle(r *plugsock.Request) error {
	data := make([]byte, 8192)
	length, err := r.Recv(data)
	if err != nil {
		return err
	}
	words := strings.Fields(string(data[:length]))
	switch {
	case len(words) == 0:
	case words[0] == "fail":
		return errors.New("as the client wished")
	case words[0] == "tick":
		return tick(r)
	case words[0] == "wait":
		return wait(r)
	case words[0] == "who":
		server := r.Server()
		fmt.Fprint(r.Wfile, server.ServerAddress, " ", server.Concurrency, " ", server.Generation, " ", r.ClientAddress())
		if credentials, isKnown := r.UnixCredentials(); isKnown {
			fmt.Fprint(r.Wfile, " ", credentials.UID)
		}
		return nil
	case words[0] == "send-to":
		if err := r.SendTo([]byte("hello"), plugsock.ParseAddress(words[1])); err != nil {
			return r.Send([]byte(err.Error()))
		}
		return r.Send([]byte("sent"))
	}
	return r.Send(data[:length])
}

// tick waits for the client and a timer at once, until the client's end.
func tick(r *plugsock.Request) error {
	input, err := r.InputStream()
	if err != nil {
		return err
	}
	defer input.Close()
	output, err := r.OutputStream()
	if err != nil {
		return err
	}
	defer output.Close()
	data := make([]byte, 4096)
	for {
		client, timer := input.Subscribe(), plugsock.Timer(20*time.Millisecond)
		ready := plugsock.Poll(client, timer)
		client.Close()
		timer.Close()
		if ready[0] == 1 {
			fmt.Fprintln(output, "tick")
			continue
		}
		length, err := input.TryRead(data)
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		output.Write(data[:length])
	}
}

// wait waits for the drain and the client at once.
func wait(r *plugsock.Request) error {
	if r.IsDraining() {
		return r.Send([]byte("draining\n"))
	}
	r.Send([]byte("serving\n"))
	input, err := r.InputStream()
	if err != nil {
		return err
	}
	client, drain := input.Subscribe(), r.SubscribeDrain()
	plugsock.Poll(client, drain)
	if drain.IsReady() && r.IsDraining() {
		return r.Send([]byte("bye\n"))
	}
	return r.Send([]byte("hello\n"))
}

func (features) VerifyRequest(r *plugsock.Request) bool {
	data := make([]byte, 6)
	if !r.ServerType().IsDatagram() {
		return true
	}
	_, err := r.Recv(data)
	return err != nil || string(data) != "refuse"
}

func (features) HandleError(server plugsock.ServerInfo, f hooks.Failure) {
	fmt.Printf("handle_error: %v %v %d: %s\n", f.Phase, f.ClientAddress, server.Generation, f.Message)
}

func (features) HandleTimeout(server plugsock.ServerInfo) {
	fmt.Println("handle_timeout:", server.Concurrency)
}

func (features) ServiceActions(server plugsock.ServerInfo) {
	fmt.Println("service_actions:", server.Concurrency)
}

func init() {
	hooks.Serve(features{})
}

func main() {}
