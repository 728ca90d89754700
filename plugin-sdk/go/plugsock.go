// Package plugsock has request handlers in Go: socketserver's handler class as an interface.
//
// One instance of the component serves one request, so a handler's state may lie in its fields or in
// variables of the package.
package plugsock

import (
	"bufio"
	"io"
	"time"

	"plugsock/internal/abi"
)

// A Handler serves a request. It may have a Setup and a Finish, too.
type Handler interface {
	// Handle serves the request.
	Handle(r *Request) error
}

// A Preparer is a Handler that prepares: after an error neither Handle nor Finish runs.
type Preparer interface {
	Setup(r *Request) error
}

// A Finisher is a Handler that cleans up, also after Handle has failed.
type Finisher interface {
	Finish(r *Request) error
}

// Serve makes h the component's handler. Call it in an init function: a component has no main.
func Serve(h Handler) {
	handler = h
}

// ServerType says what kind of server accepted a request.
type ServerType = abi.ServerType

// The four kinds of server.
const (
	TCP          = abi.TCP
	UDP          = abi.UDP
	UnixStream   = abi.UnixStream
	UnixDatagram = abi.UnixDatagram
)

// ServerInfo is what serves a request.
type ServerInfo = abi.ServerInfo

// Address is where a request came from or came to.
type Address = abi.Address

// ParseAddress makes an Address of an IP address with its port; anything else is a Unix socket's.
func ParseAddress(text string) Address { return abi.ParseAddress(text) }

// UnixCredentials say who is at the other end of a Unix socket, as the kernel attests it.
type UnixCredentials struct {
	// PID is 0 if it is not known.
	PID, UID, GID uint32
}

// ShutdownHow says which directions Shutdown ends.
type ShutdownHow uint8

// What Shutdown ends.
const (
	Read ShutdownHow = iota
	Write
	Both
)

// Error is why an operation on a request failed.
type Error string

func (e Error) Error() string { return string(e) }

// What operations fail with; others have their own words.
const (
	ErrClosed          Error = "the connection is closed"
	ErrTimedOut        Error = "timed out"
	ErrReset           Error = "the client reset the connection"
	ErrMessageTooLarge Error = "the datagram is too large for its transport"
	ErrNoReplyAddress  Error = "the client's socket has no name, so it cannot be answered"
	ErrNotPermitted    Error = "the server was not granted this"
	ErrUnsupported     Error = "this server type has no such operation"
)

// Request is the request being served.
type Request struct {
	// Rfile is what the client sends; of a datagram server, the packet.
	Rfile *bufio.Reader
	// Wfile is what the client gets: at once, or where there are datagrams as one after Finish.
	Wfile io.Writer

	handle uint32
	reply  []byte
	// Asked when first written to: the host has to make all of the server's names.
	isDatagram, isKnown bool
}

// ID is unique among the requests of the host.
func (r *Request) ID() uint64 { return requestID(r.handle) }

// Server is the server that accepted the request.
func (r *Request) Server() ServerInfo { return server(r.handle) }

// Worker is the name of the thread or process that serves this request.
func (r *Request) Worker() string { return worker(r.handle) }

// ClientAddress says who sent it.
func (r *Request) ClientAddress() Address { return clientAddress(r.handle) }

// UnixCredentials are the client's process and user, on a Unix socket.
func (r *Request) UnixCredentials() (credentials UnixCredentials, isKnown bool) {
	return unixCredentials(r.handle)
}

// ServerType says what kind of server accepted the request.
func (r *Request) ServerType() ServerType { return serverType(r.handle) }

// Recv blocks until data arrive, and puts them into p: 0 bytes at the end of a stream. Datagram: the packet
// once (the rest of it, if p is smaller, with the next call), then 0.
func (r *Request) Recv(p []byte) (int, error) { return recv(r.handle, p) }

// Send blocks until all is sent. Datagram: one datagram to the client.
func (r *Request) Send(data []byte) error { return send(r.handle, data) }

// SendTo sends one datagram to another address, where the server was granted this.
func (r *Request) SendTo(data []byte, address Address) error { return sendTo(r.handle, data, address) }

// IsDraining reports whether a newer version of the handler has replaced this one, so that the request should end at the
// next good point; never, unless the server was told to say so (--drain-signal).
func (r *Request) IsDraining() bool { return requestIsDraining(r.handle) != 0 }

// SubscribeDrain is ready once IsDraining is true.
func (r *Request) SubscribeDrain() Pollable { return Pollable{requestSubscribeDrain(r.handle)} }

// Shutdown half-closes or closes the connection.
func (r *Request) Shutdown(how ShutdownHow) error { return shutdown(r.handle, how) }

// SetTimeout sets how long one Recv or Send may wait; the server's own limit bounds it, too.
func (r *Request) SetTimeout(timeout time.Duration) error { return setTimeout(r.handle, timeout) }

// DisableNagleAlgorithm sends small segments at once.
func (r *Request) DisableNagleAlgorithm() error { return setNodelay(r.handle, true) }

func newRequest() *Request {
	r := new(Request)
	r.Rfile = bufio.NewReader(rfile{r})
	r.Wfile = wfile{r}
	return r
}

type rfile struct{ *Request }

// The most that one Recv is asked for, however much a reader wants: the host has to hold it, too.
const most = 1 << 20

func (r rfile) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.Recv(p[:min(len(p), most)])
	if err == nil && n == 0 {
		err = io.EOF
	}
	return n, err
}

type wfile struct{ *Request }

func (w wfile) Write(p []byte) (int, error) {
	if !w.isKnown {
		w.isDatagram, w.isKnown = w.ServerType().IsDatagram(), true
	}
	if w.isDatagram {
		w.reply = append(w.reply, p...)
		return len(p), nil
	}
	if len(p) == 0 {
		return 0, nil
	}
	if err := w.Send(p); err != nil {
		return 0, err
	}
	return len(p), nil
}
