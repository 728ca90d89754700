// Package wasihttp has a handler of net/http answer what comes by wasi:http/incoming-handler.
//
//	func init() {
//		wasihttp.Handle(http.HandlerFunc(answer))
//	}
//
// Each request has an instance of its own, and what is kept in variables is gone with it.
package wasihttp

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"unsafe"

	"plugsock/internal/abi"
)

var handler http.Handler = http.DefaultServeMux

// Handle sets who answers; without it, http.DefaultServeMux does.
func Handle(h http.Handler) { handler = h }

// The methods in the order of wasi:http; others come as text.
var methods = [...]string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

// What one write to a stream may have.
const most = 4096

var errClosed = errors.New("the connection is closed")

func serve(handle, outparam uint32) {
	w := &response{outparam: outparam, header: http.Header{}}
	r, err := lift(handle)
	if err != nil {
		http.Error(w, "the request's target is none", http.StatusBadRequest)
	} else {
		handler.ServeHTTP(w, r)
		r.Body.Close()
	}
	w.finish()
	dropRequest(handle)
}

func lift(handle uint32) (*http.Request, error) {
	var a answer
	words.Reset()
	requestMethod(handle, &a)
	var method string
	if tag := int(a.tag(0)); tag < len(methods) {
		method = methods[tag]
	} else {
		method = a.text(1)
	}
	target, _ := option(handle, requestPath)
	host, _ := option(handle, requestAuthority)
	parsed, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, err
	}
	r := &http.Request{
		Method: method, URL: parsed, RequestURI: target, Host: host, Header: header(requestHeaders(handle)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: &body{}, ContentLength: -1,
	}
	r.Header.Del("Host")
	if length, err := strconv.ParseInt(r.Header.Get("Content-Length"), 10, 64); err == nil {
		r.ContentLength = length
	}
	requestConsume(handle, &a)
	if a.tag(0) == 0 {
		incoming := a.words[1]
		incomingStream(incoming, &a)
		r.Body = &body{incoming: incoming, stream: a.words[1], isOpen: true}
	}
	return r, nil
}

// option is what a function returns that may return a text.
func option(handle uint32, of func(uint32, *answer)) (string, bool) {
	var a answer
	words.Reset()
	if of(handle, &a); a.tag(0) == 0 {
		return "", false
	}
	return a.text(1), true
}

func header(fields uint32) http.Header {
	var a answer
	words.Reset()
	fieldsEntries(fields, &a)
	dropFields(fields)
	header := http.Header{}
	for _, entry := range unsafe.Slice((*[4]uint32)(unsafe.Pointer(uintptr(a.words[0]))), a.words[1]) {
		header.Add(abi.Lifted([2]uint32(entry[0:2])), abi.Lifted([2]uint32(entry[2:4])))
	}
	return header
}

// body is what the client sends.
type body struct {
	incoming, stream uint32
	isOpen           bool
}

// Read waits for data.
func (b *body) Read(p []byte) (int, error) {
	if !b.isOpen {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	var a answer
	words.Reset()
	abi.Space = p
	streamRead(b.stream, uint64(len(p)), &a)
	abi.Space = nil
	if a.tag(0) == 0 {
		return int(a.words[2]), nil
	}
	return 0, failed(&a, io.EOF)
}

func (b *body) Close() error {
	if b.isOpen {
		b.isOpen = false
		dropInputStream(b.stream)
		dropIncomingBody(b.incoming)
	}
	return nil
}

// failed is the error of a stream: it is closed, or there is more to let go of.
func failed(a *answer, closed error) error {
	if a.tag(1) == 0 {
		dropError(a.words[2])
		return errClosed
	}
	return closed
}

// response is what the client gets, each write at once.
type response struct {
	outparam     uint32
	header       http.Header
	body, stream uint32
	isBegun      bool
}

func (w *response) Header() http.Header { return w.header }

// WriteHeader sends the head. What may not be said by a handler, as how a connection goes on, is left out.
func (w *response) WriteHeader(status int) {
	if w.isBegun {
		return
	}
	w.isBegun = true
	var a answer
	fields := newFields()
	for name, values := range w.header {
		for _, value := range values {
			fieldsAppend(
				fields, unsafe.StringData(name), uint32(len(name)), unsafe.StringData(value), uint32(len(value)), &a,
			)
		}
	}
	answered := newResponse(fields)
	if responseSetStatus(answered, uint32(status)) != 0 {
		panic("there is no status " + strconv.Itoa(status))
	}
	responseBody(answered, &a)
	w.body = a.words[1]
	outparamSet(w.outparam, 0, answered, 0, 0, 0, 0, 0, 0)
	outgoingWrite(w.body, &a)
	w.stream = a.words[1]
}

func (w *response) Write(p []byte) (written int, err error) {
	w.WriteHeader(http.StatusOK)
	for written < len(p) {
		piece := p[written:min(len(p), written+most)]
		var a answer
		streamWrite(w.stream, unsafe.SliceData(piece), uint32(len(piece)), &a)
		if a.tag(0) != 0 {
			return written, failed(&a, errClosed)
		}
		written += len(piece)
	}
	return written, nil
}

// Flush does nothing: nothing is kept back.
func (w *response) Flush() { w.WriteHeader(http.StatusOK) }

func (w *response) finish() {
	w.WriteHeader(http.StatusOK)
	var a answer
	words.Reset()
	dropOutputStream(w.stream)
	outgoingFinish(w.body, 0, 0, &a)
}
