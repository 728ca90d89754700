package plugsock

import (
	"io"
	"structs"
	"time"
	"unsafe"

	"plugsock/internal/abi"
)

// InputStream is what the client sends, to be waited for together with others. What Rfile holds is not in it.
type InputStream struct{ handle uint32 }

// InputStream has the same bytes as Recv.
func (r *Request) InputStream() (*InputStream, error) {
	var answer result
	words.Reset()
	requestRfile(r.handle, &answer)
	if err := answer.err(); err != nil {
		return nil, err
	}
	return &InputStream{answer.first}, nil
}

// Read waits for data.
func (s *InputStream) Read(p []byte) (int, error) {
	return s.read(p, inputStreamBlockingRead)
}

// TryRead reads what is there, and nothing if nothing has come yet.
func (s *InputStream) TryRead(p []byte) (int, error) {
	return s.read(p, inputStreamRead)
}

func (s *InputStream) read(p []byte, function func(uint32, uint64, *streamResult)) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	p = p[:min(len(p), most)]
	var answer streamResult
	words.Reset()
	abi.Space = p
	function(s.handle, uint64(len(p)), &answer)
	abi.Space = nil
	if err := answer.err(); err == ErrClosed {
		return 0, io.EOF
	} else if err != nil {
		return 0, err
	}
	return int(answer.second), nil
}

// Subscribe is ready when there is something to read, or the end.
func (s *InputStream) Subscribe() Pollable { return Pollable{inputStreamSubscribe(s.handle)} }

// Close lets go of the stream, and not of the connection.
func (s *InputStream) Close() error {
	dropInputStream(s.handle)
	return nil
}

// OutputStream is what the client gets. Of a datagram server, what is written goes out as one datagram when the request
// ends.
type OutputStream struct{ handle uint32 }

// OutputStream has the same bytes as Send.
func (r *Request) OutputStream() (*OutputStream, error) {
	var answer result
	words.Reset()
	requestWfile(r.handle, &answer)
	if err := answer.err(); err != nil {
		return nil, err
	}
	return &OutputStream{answer.first}, nil
}

// TryWrite writes as much as there is room for, without waiting.
func (s *OutputStream) TryWrite(p []byte) (int, error) {
	var room roomResult
	words.Reset()
	outputStreamCheckWrite(s.handle, &room)
	if err := room.err(); err != nil {
		return 0, err
	}
	if p = p[:min(uint64(len(p)), room.payload)]; len(p) == 0 {
		return 0, nil
	}
	var answer streamResult
	outputStreamWrite(s.handle, unsafe.SliceData(p), uint32(len(p)), &answer)
	if err := answer.err(); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Write waits until all is written and sent.
func (s *OutputStream) Write(p []byte) (written int, err error) {
	for written < len(p) {
		n, err := s.TryWrite(p[written:])
		if err != nil {
			return written, err
		}
		if written += n; n == 0 {
			room := s.Subscribe()
			room.Wait()
			room.Close()
		}
	}
	return written, s.Flush()
}

// Flush waits until what was written is sent.
func (s *OutputStream) Flush() error {
	var answer streamResult
	words.Reset()
	outputStreamBlockingFlush(s.handle, &answer)
	return answer.err()
}

// Subscribe is ready when there is room to write.
func (s *OutputStream) Subscribe() Pollable { return Pollable{outputStreamSubscribe(s.handle)} }

// Close lets go of the stream, and not of the connection.
func (s *OutputStream) Close() error {
	dropOutputStream(s.handle)
	return nil
}

// A Pollable is something that can be waited for. Go's own timers and channels are none: while one waits here, no other
// goroutine runs.
type Pollable struct{ handle uint32 }

// Timer is ready after that long.
func Timer(d time.Duration) Pollable { return Pollable{subscribeDuration(uint64(max(d, 0)))} }

// IsReady reports whether it need not be waited for.
func (p Pollable) IsReady() bool { return pollableReady(p.handle) != 0 }

// Wait waits until it is ready.
func (p Pollable) Wait() { pollableBlock(p.handle) }

// Close lets go of it.
func (p Pollable) Close() error {
	dropPollable(p.handle)
	return nil
}

// Poll waits until one of them is ready at least; which of them are, by their places.
func Poll(pollables ...Pollable) []int {
	handles := make([]uint32, len(pollables))
	for i, pollable := range pollables {
		handles[i] = pollable.handle
	}
	var list textWords
	words.Reset()
	poll(unsafe.SliceData(handles), uint32(len(handles)), &list)
	var ready []int
	for _, place := range unsafe.Slice((*uint32)(unsafe.Pointer(uintptr(list.words[0]))), list.words[1]) {
		ready = append(ready, int(place))
	}
	return ready
}

// streamResult is a `result<list<u8>, stream-error>` or a `result<_, stream-error>`.
type streamResult struct {
	_       structs.HostLayout
	isError uint8
	_       [3]uint8
	// The list's address, or the error's tag.
	first uint32
	// The list's length, or the handle of an error in words.
	second uint32
}

func (r *streamResult) err() error {
	if r.isError == 0 {
		return nil
	}
	return streamError(r.first, r.second)
}

// roomResult is a `result<u64, stream-error>`, whose error has its tag and its handle where the number is.
type roomResult struct {
	_       structs.HostLayout
	isError uint8
	_       [7]uint8
	payload uint64
}

func (r *roomResult) err() error {
	if r.isError == 0 {
		return nil
	}
	return streamError(uint32(r.payload), uint32(r.payload>>32))
}

func streamError(tag, handle uint32) error {
	if uint8(tag) != 0 {
		return ErrClosed
	}
	var text textWords
	words.Reset()
	errorToDebugString(handle, &text)
	dropError(handle)
	return Error(abi.Lifted(text.words))
}

//go:wasmimport plugsock:handler/types@0.1.1 [method]request.rfile
func requestRfile(request uint32, result *result)

//go:wasmimport plugsock:handler/types@0.1.1 [method]request.wfile
func requestWfile(request uint32, result *result)

//go:wasmimport wasi:io/streams@0.2.6 [method]input-stream.read
func inputStreamRead(stream uint32, length uint64, result *streamResult)

//go:wasmimport wasi:io/streams@0.2.6 [method]input-stream.blocking-read
func inputStreamBlockingRead(stream uint32, length uint64, result *streamResult)

//go:wasmimport wasi:io/streams@0.2.6 [method]input-stream.subscribe
func inputStreamSubscribe(stream uint32) uint32

//go:wasmimport wasi:io/streams@0.2.6 [resource-drop]input-stream
func dropInputStream(stream uint32)

//go:wasmimport wasi:io/streams@0.2.6 [method]output-stream.check-write
func outputStreamCheckWrite(stream uint32, result *roomResult)

//go:wasmimport wasi:io/streams@0.2.6 [method]output-stream.write
func outputStreamWrite(stream uint32, data *byte, length uint32, result *streamResult)

//go:wasmimport wasi:io/streams@0.2.6 [method]output-stream.blocking-flush
func outputStreamBlockingFlush(stream uint32, result *streamResult)

//go:wasmimport wasi:io/streams@0.2.6 [method]output-stream.subscribe
func outputStreamSubscribe(stream uint32) uint32

//go:wasmimport wasi:io/streams@0.2.6 [resource-drop]output-stream
func dropOutputStream(stream uint32)

//go:wasmimport wasi:io/error@0.2.6 [method]error.to-debug-string
func errorToDebugString(err uint32, text *textWords)

//go:wasmimport wasi:io/error@0.2.6 [resource-drop]error
func dropError(err uint32)

//go:wasmimport wasi:io/poll@0.2.6 poll
func poll(pollables *uint32, length uint32, ready *textWords)

//go:wasmimport wasi:io/poll@0.2.6 [method]pollable.ready
func pollableReady(pollable uint32) uint32

//go:wasmimport wasi:io/poll@0.2.6 [method]pollable.block
func pollableBlock(pollable uint32)

//go:wasmimport wasi:io/poll@0.2.6 [resource-drop]pollable
func dropPollable(pollable uint32)

//go:wasmimport wasi:clocks/monotonic-clock@0.2.6 subscribe-duration
func subscribeDuration(nanoseconds uint64) uint32
