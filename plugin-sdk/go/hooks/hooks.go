// Package hooks has a handler that has a say in how its server runs: the methods of socketserver.BaseServer that a
// subclass overrides, as interfaces of one method each. Who imports it exports them all.
//
// Each call gets an instance of the component of its own.
package hooks

import (
	"unsafe"

	"plugsock"
	"plugsock/internal/abi"
)

// A Verifier decides whether to serve a request. A datagram can be read here, and will be read again by the handler; a
// stream cannot be read or written yet.
type Verifier interface {
	VerifyRequest(r *plugsock.Request) bool
}

// An ErrorHandler is told of a request that failed.
type ErrorHandler interface {
	HandleError(server plugsock.ServerInfo, failure Failure)
}

// A TimeoutHandler is told that the server's timeout passed without a request.
type TimeoutHandler interface {
	HandleTimeout(server plugsock.ServerInfo)
}

// A Servicer runs between requests, at least about twice a second.
type Servicer interface {
	ServiceActions(server plugsock.ServerInfo)
}

// Phase is the phase of a request in which it failed.
type Phase uint8

// The phases.
const (
	Verify Phase = iota
	Setup
	Handle
	Finish
)

func (p Phase) String() string {
	return [...]string{"verify", "setup", "handle", "finish"}[p]
}

// Failure is a request that failed.
type Failure struct {
	// ID is the request's.
	ID            uint64
	ClientAddress plugsock.Address
	Phase         Phase
	// Message says what went wrong.
	Message string
}

var served plugsock.Handler

// Serve makes h the component's handler, as plugsock.Serve does, with those hooks that it has.
func Serve(h plugsock.Handler) {
	served = h
	plugsock.Serve(h)
}

//go:wasmexport plugsock:handler/server-hooks@0.1.1#verify-request
func verifyRequest(handle uint32) uint32 {
	request := abi.Lend(handle).(*plugsock.Request)
	defer abi.GiveBack(handle)
	if h, ok := served.(Verifier); ok && !h.VerifyRequest(request) {
		return 0
	}
	return 1
}

//go:wasmexport plugsock:handler/server-hooks@0.1.1#handle-error
func handleError(arguments uint32) {
	server := lifted(arguments)
	if h, ok := served.(ErrorHandler); ok {
		failure := arguments + 72
		h.HandleError(server, Failure{
			ID:            *(*uint64)(unsafe.Pointer(uintptr(failure))),
			ClientAddress: abi.LiftAddress((*[abi.AddressWords]uint32)(unsafe.Pointer(uintptr(failure + 8)))),
			Phase:         *(*Phase)(unsafe.Pointer(uintptr(failure + 44))),
			Message:       abi.Lifted(*(*[2]uint32)(unsafe.Pointer(uintptr(failure + 48)))),
		})
	}
}

//go:wasmexport plugsock:handler/server-hooks@0.1.1#handle-timeout
func handleTimeout(arguments uint32) {
	server := lifted(arguments)
	if h, ok := served.(TimeoutHandler); ok {
		h.HandleTimeout(server)
	}
}

//go:wasmexport plugsock:handler/server-hooks@0.1.1#service-actions
func serviceActions(arguments uint32) {
	server := lifted(arguments)
	if h, ok := served.(Servicer); ok {
		h.ServiceActions(server)
	}
}

// lifted is the server that the arguments of each begin with.
func lifted(arguments uint32) plugsock.ServerInfo {
	return (*abi.ServerWords)(unsafe.Pointer(uintptr(arguments))).Lift()
}
