// Works on stores, a line an operation, first on the store `counts`; says of an error of what kind it is.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"plugsock"
)

type state struct{ store *plugsock.Store }

func (s *state) Handle(r *plugsock.Request) (err error) {
	if s.store, err = plugsock.OpenStore("counts"); err != nil {
		return err
	}
	for {
		line, err := r.Rfile.ReadString('\n')
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		var words [4]string
		copy(words[:], strings.Fields(line))
		answer, err := s.operate(words[0], words[1], words[2], words[3])
		switch {
		case errors.Is(err, plugsock.ErrNoSuchStore):
			answer = "no-such-store"
		case errors.Is(err, plugsock.ErrAccessDenied):
			answer = "access-denied"
		case err != nil:
			answer = "other: " + err.Error()
		}
		fmt.Fprintln(r.Wfile, answer)
	}
}

func (s *state) operate(operation, key, one, other string) (any, error) {
	switch operation {
	case "open":
		opened, err := plugsock.OpenStore(key)
		if err == nil {
			s.store.Close()
			s.store = opened
		}
		return "opened", err
	case "get":
		value, exists, err := s.store.Get(key)
		if !exists {
			return "none", err
		}
		return string(value), err
	case "length":
		value, _, err := s.store.Get(key)
		return len(value), err
	case "set":
		return "set", s.store.Set(key, []byte(one))
	case "repeat":
		count, _ := strconv.Atoi(one)
		return "set", s.store.Set(key, bytes.Repeat([]byte("v"), count))
	case "fill":
		count, _ := strconv.Atoi(key)
		for i := range count {
			if err := s.store.Set(fmt.Sprint("fill:", i), []byte("x")); err != nil {
				return nil, err
			}
		}
		return "filled", nil
	case "del":
		return "deleted", s.store.Delete(key)
	case "has":
		return s.store.Exists(key)
	case "incr":
		delta, _ := strconv.ParseInt(one, 10, 64)
		return s.store.Increment(key, delta)
	case "cas":
		var old []byte
		if one != "none" {
			old = []byte(one)
		}
		return s.store.CompareAndSwap(key, old, []byte(other))
	case "add":
		for {
			seen, _, err := s.store.Get(key)
			if err != nil {
				return nil, err
			}
			number, _ := strconv.Atoi(string(seen))
			if swapped, err := s.store.CompareAndSwap(key, seen, []byte(strconv.Itoa(number+1))); swapped || err != nil {
				return "added", err
			}
		}
	}
	keys, err := s.store.Keys(key)
	if operation == "list" {
		return strings.Join(keys, " "), err
	}
	return len(keys), err
}

func init() {
	plugsock.Serve(&state{})
}

func main() {}
