package wasihttp

import (
	"structs"

	"plugsock/internal/abi"
)

// What wasi:http has, as the canonical ABI has it.

//go:wasmimport wasi:http/types@0.2.10 [method]incoming-request.method
func requestMethod(request uint32, answer *answer)

//go:wasmimport wasi:http/types@0.2.10 [method]incoming-request.path-with-query
func requestPath(request uint32, answer *answer)

//go:wasmimport wasi:http/types@0.2.10 [method]incoming-request.authority
func requestAuthority(request uint32, answer *answer)

//go:wasmimport wasi:http/types@0.2.10 [method]incoming-request.headers
func requestHeaders(request uint32) uint32

//go:wasmimport wasi:http/types@0.2.10 [method]incoming-request.consume
func requestConsume(request uint32, answer *answer)

//go:wasmimport wasi:http/types@0.2.10 [resource-drop]incoming-request
func dropRequest(request uint32)

//go:wasmimport wasi:http/types@0.2.10 [method]incoming-body.stream
func incomingStream(body uint32, answer *answer)

//go:wasmimport wasi:http/types@0.2.10 [resource-drop]incoming-body
func dropIncomingBody(body uint32)

//go:wasmimport wasi:http/types@0.2.10 [constructor]fields
func newFields() uint32

//go:wasmimport wasi:http/types@0.2.10 [method]fields.append
func fieldsAppend(fields uint32, name *byte, nameLength uint32, value *byte, valueLength uint32, answer *answer)

//go:wasmimport wasi:http/types@0.2.10 [method]fields.entries
func fieldsEntries(fields uint32, answer *answer)

//go:wasmimport wasi:http/types@0.2.10 [resource-drop]fields
func dropFields(fields uint32)

//go:wasmimport wasi:http/types@0.2.10 [constructor]outgoing-response
func newResponse(headers uint32) uint32

//go:wasmimport wasi:http/types@0.2.10 [method]outgoing-response.set-status-code
func responseSetStatus(response uint32, status uint32) uint32

//go:wasmimport wasi:http/types@0.2.10 [method]outgoing-response.body
func responseBody(response uint32, answer *answer)

//go:wasmimport wasi:http/types@0.2.10 [static]response-outparam.set
func outparamSet(outparam uint32, isError uint32, response uint32, e0 uint32, e1 uint64, e2, e3, e4, e5 uint32)

//go:wasmimport wasi:http/types@0.2.10 [method]outgoing-body.write
func outgoingWrite(body uint32, answer *answer)

//go:wasmimport wasi:http/types@0.2.10 [static]outgoing-body.finish
func outgoingFinish(body uint32, hasTrailers uint32, trailers uint32, answer *answer)

//go:wasmimport wasi:io/streams@0.2.10 [method]input-stream.blocking-read
func streamRead(stream uint32, length uint64, answer *answer)

//go:wasmimport wasi:io/streams@0.2.10 [resource-drop]input-stream
func dropInputStream(stream uint32)

//go:wasmimport wasi:io/streams@0.2.10 [method]output-stream.blocking-write-and-flush
func streamWrite(stream uint32, data *byte, length uint32, answer *answer)

//go:wasmimport wasi:io/streams@0.2.10 [resource-drop]output-stream
func dropOutputStream(stream uint32)

//go:wasmimport wasi:io/error@0.2.10 [resource-drop]error
func dropError(failure uint32)

// answer is what a function returns that returns more than a word. Which words are in use depends on the function.
type answer struct {
	_ structs.HostLayout
	// Some of them have 64 bits.
	_     [0]uint64
	words [12]uint32
}

// tag is what the first byte of a word says: which case it is, or whether there is something.
func (a *answer) tag(word int) uint8 { return uint8(a.words[word]) }

// text is a text, or other bytes, by its address and length.
func (a *answer) text(word int) string { return abi.Lifted([2]uint32(a.words[word : word+2])) }

// Where the host puts what is no data, until the next call.
var words abi.Bump[[1 << 20]byte]

//go:wasmexport cabi_realloc
func cabiRealloc(_, _, align, size uint32) uint32 {
	return abi.Realloc(&words, align, size)
}

//go:wasmexport wasi:http/incoming-handler@0.2.10#handle
func exportHandle(request, outparam uint32) {
	abi.IsUp = true
	serve(request, outparam)
}
