package abi

import "unsafe"

// Where the host puts what it returns. Go's own memory is out of bounds while it does: its runtime may not be
// up yet, and its garbage collector asks for the time, which is forbidden then.
var (
	// Of the adapter for WASI preview 1, as long as the instance lives.
	adapter Bump[[3 << 16]byte]
	// Space is the caller's, for data.
	Space []byte
	// Room is the caller's, for what may be more than other calls return; what is left of it.
	Room []byte
	// IsUp says that the adapter has its memory.
	IsUp bool
)

// Bump is memory that is given away from its start on.
type Bump[Memory any] struct {
	memory Memory
	used   uintptr
}

// Reset has it given away anew.
func (b *Bump[Memory]) Reset() { b.used = 0 }

func (b *Bump[Memory]) take(align, size uintptr) uintptr {
	start := (b.used + align - 1) &^ (align - 1)
	if start+size > unsafe.Sizeof(b.memory) {
		panic("no room for what the host returns")
	}
	b.used = start + size
	return uintptr(unsafe.Pointer(&b.memory)) + start
}

func takeRoom(align, size uintptr) uintptr {
	address := uintptr(unsafe.Pointer(unsafe.SliceData(Room)))
	start := (address + align - 1) &^ (align - 1)
	used := start + size - address
	if used >= uintptr(len(Room)) {
		panic("no room for what the host returns")
	}
	Room = Room[used:]
	return start
}

// Realloc is cabi_realloc; words are for what has no other place, until the next call.
func Realloc[Memory any](words *Bump[Memory], align, size uint32) uint32 {
	switch {
	case !IsUp:
		return uint32(adapter.take(uintptr(align), uintptr(size)))
	case Room != nil:
		return uint32(takeRoom(uintptr(align), uintptr(size)))
	case int(size) <= len(Space) && size > 0:
		address := uintptr(unsafe.Pointer(unsafe.SliceData(Space)))
		Space = nil
		return uint32(address)
	default:
		return uint32(words.take(uintptr(align), uintptr(size)))
	}
}
