package plugsock

import (
	"fmt"
	"runtime/debug"
	"structs"
	"time"
	"unsafe"

	"plugsock/internal/abi"
)

// The contract's functions as the canonical ABI has them.

//go:wasmimport plugsock:handler/types@0.1.1 [resource-drop]request
func dropRequest(request uint32)

//go:wasmimport plugsock:handler/types@0.1.1 [method]request.id
func requestID(request uint32) uint64

//go:wasmimport plugsock:handler/types@0.1.1 [method]request.server
func requestServer(request uint32, info *abi.ServerWords)

//go:wasmimport plugsock:handler/types@0.1.1 [method]request.worker
func requestWorker(request uint32, text *textWords)

//go:wasmimport plugsock:handler/types@0.1.1 [method]request.client-address
func requestClientAddress(request uint32, address *addressOf)

//go:wasmimport plugsock:handler/types@0.1.1 [method]request.unix-credentials
func requestUnixCredentials(request uint32, option *credentialsOption)

//go:wasmimport plugsock:handler/types@0.1.1 [method]request.is-draining
func requestIsDraining(request uint32) uint32

//go:wasmimport plugsock:handler/types@0.1.1 [method]request.subscribe-drain
func requestSubscribeDrain(request uint32) uint32

//go:wasmimport plugsock:handler/types@0.1.1 [method]request.send-to
func requestSendTo(
	request uint32, data *byte, length uint32,
	a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12 uint32, result *result,
)

//go:wasmimport plugsock:handler/types@0.1.1 [method]request.recv
func requestRecv(request uint32, max uint32, result *result)

//go:wasmimport plugsock:handler/types@0.1.1 [method]request.send
func requestSend(request uint32, data *byte, length uint32, result *result)

//go:wasmimport plugsock:handler/types@0.1.1 [method]request.shutdown
func requestShutdown(request uint32, how uint32, result *result)

//go:wasmimport plugsock:handler/types@0.1.1 [method]request.set-timeout
func requestSetTimeout(request uint32, isSome uint32, nanoseconds uint64, result *result)

//go:wasmimport plugsock:handler/types@0.1.1 [method]request.set-nodelay
func requestSetNodelay(request uint32, on uint32, result *result)

// result is a `result<list<u8>, error>` or a `result<_, error>`: words, of which those in use depend on the
// first bytes of the two before.
type result struct {
	_       structs.HostLayout
	isError uint8
	_       [3]uint8
	// The list's address, or the error's tag.
	first uint32
	// The list's length, or the address of the words of an error that is another.
	second uint32
	third  uint32
}

// textWords is the address and the length of a text, or of another list.
type textWords struct {
	_     structs.HostLayout
	words [2]uint32
}

type addressOf struct {
	_     structs.HostLayout
	words [abi.AddressWords]uint32
}

// credentialsOption is an `option<unix-credentials>`: whether there are any, whether there is a process, and the words.
type credentialsOption struct {
	_     structs.HostLayout
	words [5]uint32
}

var (
	handler Handler
	request *Request
	// What an export returned last; the host reads it afterwards.
	returned struct {
		_       structs.HostLayout
		isError uint32
		// Go's own pointers have 64 bits.
		words  uint32
		length uint32
	}
	// What it points to.
	failure []byte
)

// Where the host puts names and the words of errors, until the next call.
var words abi.Bump[[1 << 16]byte]

//go:wasmexport cabi_realloc
func cabiRealloc(_, _, align, size uint32) uint32 {
	return abi.Realloc(&words, align, size)
}

// What the package hooks needs; it has the other exports, so that only who wants them imports it.
func init() {
	abi.Lend = func(handle uint32) any {
		abi.IsUp = true
		r := newRequest()
		r.handle = handle
		return r
	}
	abi.GiveBack = dropRequest
}

//go:wasmexport plugsock:handler/request-handler@0.1.1#setup
func exportSetup(handle uint32) *uint32 {
	abi.IsUp = true
	request = newRequest()
	return run(handle, func() error {
		if h, ok := handler.(Preparer); ok {
			return h.Setup(request)
		}
		return nil
	})
}

//go:wasmexport plugsock:handler/request-handler@0.1.1#handle
func exportHandle(handle uint32) *uint32 {
	return run(handle, func() error { return handler.Handle(request) })
}

//go:wasmexport plugsock:handler/request-handler@0.1.1#finish
func exportFinish(handle uint32) *uint32 {
	return run(handle, func() (err error) {
		if h, ok := handler.(Finisher); ok {
			err = h.Finish(request)
		}
		if len(request.reply) > 0 {
			if failed := request.Send(request.reply); err == nil {
				err = failed
			}
		}
		return err
	})
}

// run runs a method of the handler. A borrowed request must be dropped before the component's function
// returns, and a panic ends the request in words.
func run(handle uint32, method func() error) *uint32 {
	request.handle = handle
	defer dropRequest(handle)
	err := recovered(method)
	returned.isError = 0
	if err != nil {
		failure = []byte(err.Error())
		returned.isError = 1
		returned.words = uint32(uintptr(unsafe.Pointer(unsafe.SliceData(failure))))
		returned.length = uint32(len(failure))
	}
	return &returned.isError
}

func recovered(method func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			debug.PrintStack()
			err = fmt.Errorf("panic: %v", cause)
		}
	}()
	return method()
}

func serverType(handle uint32) ServerType {
	var info abi.ServerWords
	words.Reset()
	requestServer(handle, &info)
	return info.Type()
}

func server(handle uint32) ServerInfo {
	var info abi.ServerWords
	words.Reset()
	requestServer(handle, &info)
	return info.Lift()
}

func worker(handle uint32) string {
	var text textWords
	words.Reset()
	requestWorker(handle, &text)
	return abi.Lifted(text.words)
}

func clientAddress(handle uint32) Address {
	var address addressOf
	words.Reset()
	requestClientAddress(handle, &address)
	return abi.LiftAddress(&address.words)
}

func unixCredentials(handle uint32) (credentials UnixCredentials, isKnown bool) {
	var option credentialsOption
	requestUnixCredentials(handle, &option)
	if uint8(option.words[0]) == 0 {
		return UnixCredentials{}, false
	}
	if uint8(option.words[1]) != 0 {
		credentials.PID = option.words[2]
	}
	credentials.UID, credentials.GID = option.words[3], option.words[4]
	return credentials, true
}

// recv has the host put what it receives where it shall be.
func recv(handle uint32, data []byte) (int, error) {
	var r result
	words.Reset()
	abi.Space = data
	requestRecv(handle, uint32(len(data)), &r)
	abi.Space = nil
	if err := r.err(); err != nil {
		return 0, explain(handle, err)
	}
	return int(r.second), nil
}

func send(handle uint32, data []byte) error {
	var r result
	words.Reset()
	requestSend(handle, unsafe.SliceData(data), uint32(len(data)), &r)
	if err := r.err(); err != nil {
		return explain(handle, err)
	}
	return nil
}

// Says more of an error. Only who uses TLS sets it to what asks TLS, so that the linker leaves that out of all other
// handlers.
var explain = func(_ uint32, err error) error { return err }

func sendTo(handle uint32, data []byte, address Address) error {
	var r result
	words.Reset()
	w, ok := address.Flat()
	if !ok {
		return Error("not an IP address: " + address.Host)
	}
	requestSendTo(
		handle, unsafe.SliceData(data), uint32(len(data)),
		w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10], w[11], w[12], &r,
	)
	return r.err()
}

func shutdown(handle uint32, how ShutdownHow) error {
	var r result
	words.Reset()
	requestShutdown(handle, uint32(how), &r)
	return r.err()
}

func setTimeout(handle uint32, timeout time.Duration) error {
	var r result
	words.Reset()
	requestSetTimeout(handle, 1, uint64(max(timeout, 0)), &r)
	return r.err()
}

func setNodelay(handle uint32, on bool) error {
	var r result
	words.Reset()
	var flag uint32
	if on {
		flag = 1
	}
	requestSetNodelay(handle, flag, &r)
	return r.err()
}

// Errors in the contract's order.
var errors = [...]Error{
	ErrClosed, ErrTimedOut, ErrReset, ErrMessageTooLarge, ErrNoReplyAddress, ErrNotPermitted, ErrUnsupported,
}

func (r *result) err() error {
	if r.isError == 0 {
		return nil
	}
	if tag := int(uint8(r.first)); tag < len(errors) {
		return errors[tag]
	}
	text := unsafe.Slice((*byte)(unsafe.Pointer(uintptr(r.second))), r.third)
	return Error(text)
}
