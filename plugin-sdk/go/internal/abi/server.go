// Package abi has what the packages plugsock and hooks share: the types of both, as the host puts them into memory.
package abi

import (
	"structs"
	"unsafe"
)

// What the package plugsock gives the package hooks, which does not link more of it than it needs.
var (
	// Lend makes a *plugsock.Request of what the host lends to an exported function, which has to give it back.
	Lend     func(handle uint32) any
	GiveBack func(handle uint32)
)

// ServerType says what kind of server accepted a request.
type ServerType uint8

// The four kinds of server.
const (
	TCP ServerType = iota
	UDP
	UnixStream
	UnixDatagram
)

// IsDatagram reports whether a request is one packet, and not a connection.
func (t ServerType) IsDatagram() bool {
	return t == UDP || t == UnixDatagram
}

// ServerInfo is what serves a request.
type ServerInfo struct {
	// Name is the server's, as in its log.
	Name       string
	ServerType ServerType
	// ServerAddress is what the server is bound to.
	ServerAddress Address
	// Concurrency is sync, threading, forking, pool or async.
	Concurrency string
	// HandlerDigest is the SHA-256 of the component that serves.
	HandlerDigest string
	// Generation counts the versions of the handler.
	Generation uint64
}

// ServerWords are a `server-info` in memory: words, by twos since it is aligned as its last field is.
type ServerWords struct {
	_     structs.HostLayout
	Pairs [9]uint64
}

// Type is all that there is to say without the names.
func (w *ServerWords) Type() ServerType {
	return ServerType(w.Pairs[1])
}

// Lift makes a ServerInfo of one in memory.
func (w *ServerWords) Lift() ServerInfo {
	words := (*[18]uint32)(unsafe.Pointer(&w.Pairs))
	return ServerInfo{
		Name:          Lifted([2]uint32(words[0:2])),
		ServerType:    w.Type(),
		ServerAddress: LiftAddress((*[AddressWords]uint32)(words[3:12])),
		Concurrency:   Lifted([2]uint32(words[12:14])),
		HandlerDigest: Lifted([2]uint32(words[14:16])),
		Generation:    w.Pairs[8],
	}
}

// Lifted copies what the host put somewhere.
func Lifted(text [2]uint32) string {
	return string(unsafe.Slice((*byte)(unsafe.Pointer(uintptr(text[0]))), text[1]))
}
