package abi

import (
	"strconv"
	"strings"
	"unsafe"
)

// Address is where a request came from or came to. (The package net/netip would make each handler larger by 100 KB.)
type Address struct {
	// Host is an IP address as text, with a zone's number after a % if it has one; empty for Unix sockets.
	Host string
	// Port is an IP socket's.
	Port uint16
	// Unix is the path of a Unix socket, or @ and its name in Linux's abstract namespace; empty if it has none.
	Unix string
}

// ParseAddress makes an Address of an IP address with its port, 127.0.0.1:53 or [::1]:53; anything else is a Unix socket's.
func ParseAddress(text string) Address {
	if colon := strings.LastIndexByte(text, ':'); colon >= 0 {
		host := text[:colon]
		if inner, ok := strings.CutPrefix(host, "["); ok {
			host = strings.TrimSuffix(inner, "]")
		}
		port, err := strconv.ParseUint(text[colon+1:], 10, 16)
		if _, _, isIP := parse(host); isIP && err == nil {
			return Address{Host: host, Port: uint16(port)}
		}
	}
	return Address{Unix: text}
}

func (a Address) String() string {
	port := strconv.Itoa(int(a.Port))
	switch {
	case strings.Contains(a.Host, ":"):
		return "[" + a.Host + "]:" + port
	case a.Host != "":
		return a.Host + ":" + port
	case a.Unix == "":
		return "(unnamed)"
	default:
		return a.Unix
	}
}

// parse has the 4 bytes or the 8 groups of an IP address, and its zone.
func parse(host string) (numbers []uint16, zone uint32, isIP bool) {
	if !strings.Contains(host, ":") {
		numbers, isIP = parseAll(host, ".", 10, 8)
		return numbers, 0, isIP && len(numbers) == 4
	}
	host, scope, hasZone := strings.Cut(host, "%")
	if hasZone {
		number, err := strconv.ParseUint(scope, 10, 32)
		if err != nil {
			return nil, 0, false
		}
		zone = uint32(number)
	}
	before, after, hasGap := strings.Cut(host, "::")
	numbers, isIP = parseAll(before, ":", 16, 16)
	if hasGap {
		rest, isRest := parseAll(after, ":", 16, 16)
		isIP = isIP && isRest && len(numbers)+len(rest) < 8
		for len(numbers)+len(rest) < 8 {
			numbers = append(numbers, 0)
		}
		numbers = append(numbers, rest...)
	}
	return numbers, zone, isIP && len(numbers) == 8
}

func parseAll(text, separator string, base, bits int) (numbers []uint16, ok bool) {
	if text == "" {
		return nil, true
	}
	for _, part := range strings.Split(text, separator) {
		number, err := strconv.ParseUint(part, base, bits)
		if err != nil {
			return nil, false
		}
		numbers = append(numbers, uint16(number))
	}
	return numbers, true
}

// AddressWords are the words of an address in memory.
const AddressWords = 9

// LiftAddress makes an Address of one in memory.
func LiftAddress(words *[AddressWords]uint32) Address {
	isUnix, kind := uint8(words[0]) != 0, uint8(words[1])
	switch {
	case isUnix && kind == 0:
		return Address{}
	case isUnix && kind == 1:
		return Address{Unix: Lifted([2]uint32(words[2:4]))}
	case isUnix:
		return Address{Unix: "@" + Lifted([2]uint32(words[2:4]))}
	}
	address := Address{Port: uint16(words[2])}
	if kind == 0 {
		ip := [4]byte{byte(words[2] >> 16), byte(words[2] >> 24), byte(words[3]), byte(words[3] >> 8)}
		for i, b := range ip {
			if i > 0 {
				address.Host += "."
			}
			address.Host += strconv.Itoa(int(b))
		}
		return address
	}
	for i := range 8 {
		if i > 0 {
			address.Host += ":"
		}
		address.Host += strconv.FormatUint(uint64(uint16(words[4+i/2]>>(16*(i%2)))), 16)
	}
	if zone := words[8]; zone != 0 {
		address.Host += "%" + strconv.FormatUint(uint64(zone), 10)
	}
	return address
}

// What Flat sends the host the address of: it has to last, which what is on Go's stack would not.
var name []byte

// Flat is the address as the arguments of a function, unless its host is no IP address.
func (a Address) Flat() (words [13]uint32, ok bool) {
	if a.Host != "" {
		numbers, zone, isIP := parse(a.Host)
		words[2] = uint32(a.Port)
		start := 3
		if len(numbers) == 8 {
			words[1], words[12], start = 1, zone, 4
		}
		if isIP {
			for i, number := range numbers {
				words[start+i] = uint32(number)
			}
		}
		return words, isIP
	}
	words[0] = 1
	if a.Unix != "" {
		name = []byte(a.Unix)
		words[1] = 1
		if name[0] == '@' {
			name = name[1:]
			words[1] = 2
		}
		words[2] = uint32(uintptr(unsafe.Pointer(unsafe.SliceData(name))))
		words[3] = uint32(len(name))
	}
	return words, true
}
