package plugsock

import (
	"structs"
	"unsafe"

	"plugsock/internal/abi"
)

// TLSConfig is what StartTLS is asked for.
type TLSConfig struct {
	// Identity names one of the server's certificates; without it is the one for the name that the client asks for.
	Identity string
	// NextProtos are the application protocols that the handler speaks (ALPN), the preferred first.
	NextProtos []string
}

// TLSInfo says how a connection is protected.
type TLSInfo struct {
	// Protocol is TLSv1.2 or TLSv1.3.
	Protocol string
	// CipherSuite has its name at IANA.
	CipherSuite string
	// ServerName is what the client asked for (SNI), if anything.
	ServerName string
	// NegotiatedProtocol is what both agreed on (ALPN), if anything.
	NegotiatedProtocol string
	// DidResume says whether an earlier session was resumed.
	DidResume bool
	// ClientCertificates are the client's, which was verified, and what it sent to verify it by, in DER.
	ClientCertificates [][]byte
	// ClientNames say whom the client's certificate is for.
	ClientNames []string
}

// What a connection is not protected for; a *TLSError has one of them, or what the connection failed of.
const (
	ErrHandshakeFailed     Error = "the TLS handshake failed"
	ErrCertificateRefused  Error = "the client's certificate is refused"
	ErrClosedWithoutNotice Error = "the client closed the connection without notice, so that its data may be cut short"
	ErrUnprotectedBytes    Error = "the client sent data in the clear where TLS was to begin"
	// After these two the connection is as it was.
	ErrNoIdentity       Error = "the server has no certificate for this"
	ErrAlreadyProtected Error = "the connection is protected already"
)

// A TLSError says why a connection could not be protected, or is protected no more.
type TLSError struct {
	// Reason is one of the constants, for errors.Is.
	Reason error
	// Alert ended the handshake, by its name in RFC 8446, if there was one.
	Alert string
	// Message says more than the reason, if there is more.
	Message string
	// What the operation would have failed with, had nobody asked TLS.
	plain error
}

func (e *TLSError) Error() string {
	words := e.Reason.Error()
	if e.Message != "" {
		words += ": " + e.Message
	}
	if e.Alert != "" {
		words += " (" + e.Alert + ")"
	}
	return words
}

// Unwrap has errors.Is find the reason, and what a connection without TLS would have failed with.
func (e *TLSError) Unwrap() []error {
	if e.plain == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.plain}
}

// StartTLS protects the connection by TLS, as its server: from here on Rfile and Wfile, Recv and Send are of the protected
// connection. It fails with a *TLSError; the connection is over then, except after ErrNoIdentity and
// ErrAlreadyProtected.
func (r *Request) StartTLS(config TLSConfig) (TLSInfo, error) {
	explain = explainByTLS
	if r.Rfile.Buffered() > 0 {
		if _, isProtected := r.TLS(); isProtected {
			return TLSInfo{}, &TLSError{Reason: ErrAlreadyProtected}
		}
		// Nothing that the client said in the clear may count as protected.
		r.Rfile.Discard(r.Rfile.Buffered())
		r.Shutdown(Both)
		return TLSInfo{}, &TLSError{Reason: ErrUnprotectedBytes}
	}
	return startTLS(r.handle, config)
}

// TLS says how the connection is protected, by StartTLS or by its server, and whether it is.
func (r *Request) TLS() (info TLSInfo, isProtected bool) {
	explain = explainByTLS
	var answer tlsAnswer
	withRoom(func() { requestTLS(r.handle, &answer) })
	if answer.flag == 0 {
		return TLSInfo{}, false
	}
	return answer.info(), true
}

//go:wasmimport plugsock:handler/types@0.1.1 [method]request.start-tls
func requestStartTLS(
	request, isSome uint32, identity *byte, identityLength uint32, alpn *uint32, alpnLength uint32, answer *tlsAnswer,
)

//go:wasmimport plugsock:handler/types@0.1.1 [method]request.tls
func requestTLS(request uint32, answer *tlsAnswer)

//go:wasmimport plugsock:handler/types@0.1.1 [method]request.tls-error
func requestTLSError(request uint32, answer *tlsAnswer)

// tlsAnswer is a `result<tls-info, tls-error>` or an option of one of them: words, of which those in use depend on
// the first bytes of others.
type tlsAnswer struct {
	_    structs.HostLayout
	flag uint8
	_    [3]uint8
	// A `tls-info`, or a `tls-error`.
	words [15]uint32
}

func startTLS(handle uint32, config TLSConfig) (TLSInfo, error) {
	protocols = nil
	for _, protocol := range config.NextProtos {
		protocols = append(protocols, protocol...)
	}
	var list []uint32
	start := uint32(uintptr(unsafe.Pointer(unsafe.SliceData(protocols))))
	for _, protocol := range config.NextProtos {
		list = append(list, start, uint32(len(protocol)))
		start += uint32(len(protocol))
	}
	var isSome uint32
	if config.Identity != "" {
		isSome = 1
	}
	identity, length := unsafe.StringData(config.Identity), uint32(len(config.Identity))
	var answer tlsAnswer
	withRoom(func() {
		alpn := unsafe.SliceData(list)
		requestStartTLS(handle, isSome, identity, length, alpn, uint32(len(config.NextProtos)), &answer)
	})
	if answer.flag != 0 {
		return TLSInfo{}, answer.err(nil)
	}
	return answer.info(), nil
}

// What startTLS sends the host addresses of: they have to last, which those of Go's stack would not.
var protocols []byte

// explainByTLS asks TLS why an operation failed.
func explainByTLS(handle uint32, plain error) error {
	var answer tlsAnswer
	withRoom(func() { requestTLSError(handle, &answer) })
	if answer.flag == 0 {
		return plain
	}
	return answer.err(plain)
}

// withRoom makes a call that returns as much as a client's certificates and their names are, which is 64 KiB and
// what it takes to write their names in words.
func withRoom(call func()) {
	abi.Room = make([]byte, 1<<18)
	defer func() { abi.Room = nil }()
	call()
}

func (a *tlsAnswer) info() TLSInfo {
	info := TLSInfo{
		Protocol:           a.text(0),
		CipherSuite:        a.text(2),
		ServerName:         a.optionalText(4),
		NegotiatedProtocol: a.optionalText(7),
		DidResume:          uint8(a.words[10]) != 0,
	}
	for _, certificate := range a.list(11) {
		info.ClientCertificates = append(info.ClientCertificates, []byte(abi.Lifted(certificate)))
	}
	for _, name := range a.list(13) {
		info.ClientNames = append(info.ClientNames, abi.Lifted(name))
	}
	return info
}

// In the contract's order; the last is the connection's own.
var tlsReasons = [...]Error{
	ErrHandshakeFailed, ErrCertificateRefused, ErrClosedWithoutNotice, ErrUnprotectedBytes, ErrNoIdentity,
	ErrAlreadyProtected,
}

func (a *tlsAnswer) err(plain error) error {
	tag := int(uint8(a.words[0]))
	if tag >= len(tlsReasons) {
		r := result{isError: 1, first: a.words[1], second: a.words[2], third: a.words[3]}
		return &TLSError{Reason: r.err(), plain: plain}
	}
	e := &TLSError{Reason: tlsReasons[tag], plain: plain}
	switch e.Reason {
	case ErrHandshakeFailed:
		e.Alert, e.Message = a.optionalText(1), a.text(4)
	case ErrCertificateRefused, ErrNoIdentity:
		e.Message = a.text(1)
	}
	return e
}

// text has its address and its length from a word on.
func (a *tlsAnswer) text(word int) string {
	return abi.Lifted([2]uint32{a.words[word], a.words[word+1]})
}

func (a *tlsAnswer) optionalText(word int) string {
	if uint8(a.words[word]) == 0 {
		return ""
	}
	return a.text(word + 1)
}

func (a *tlsAnswer) list(word int) [][2]uint32 {
	return unsafe.Slice((*[2]uint32)(unsafe.Pointer(uintptr(a.words[word]))), a.words[word+1])
}
