package plugsock

import (
	"bytes"
	"slices"
	"strings"
	"structs"
	"unsafe"

	"plugsock/internal/abi"
)

// What operations on a store fail with; others have their own words.
const (
	ErrNoSuchStore  Error = "the server grants no store of this name"
	ErrAccessDenied Error = "the server grants the store for reading only"
)

// MaxValueSize is the longest value that can be read: a longer one traps, which ends the request. It is what servers allow unless
// they are told otherwise (--state-value-size); where they are, a handler sets it.
var MaxValueSize = 1 << 20

// A Store has values by their keys, which all requests of all handlers share that are granted it.
type Store struct{ handle uint32 }

// OpenStore opens the store that the server grants under this name (--state).
func OpenStore(name string) (*Store, error) {
	answer, err := ask(func(a *stateAnswer) { storeOpen(unsafe.StringData(name), uint32(len(name)), a) })
	if err != nil {
		return nil, err
	}
	return &Store{answer.words()[1]}, nil
}

// Get has the value of a key, and whether it has one.
func (s *Store) Get(key string) (value []byte, exists bool, err error) {
	return askValue(func(a *stateAnswer) { bucketGet(s.handle, unsafe.StringData(key), uint32(len(key)), a) })
}

// Set sets the value of a key, whether it had one or not.
func (s *Store) Set(key string, value []byte) error {
	_, err := ask(func(a *stateAnswer) {
		data, size := unsafe.SliceData(value), uint32(len(value))
		bucketSet(s.handle, unsafe.StringData(key), uint32(len(key)), data, size, a)
	})
	return err
}

// Delete deletes a key; nothing happens if it has no value.
func (s *Store) Delete(key string) error {
	_, err := ask(func(a *stateAnswer) { bucketDelete(s.handle, unsafe.StringData(key), uint32(len(key)), a) })
	return err
}

// Exists reports whether a key has a value.
func (s *Store) Exists(key string) (bool, error) {
	answer, err := ask(func(a *stateAnswer) { bucketExists(s.handle, unsafe.StringData(key), uint32(len(key)), a) })
	return err == nil && uint8(answer.words()[1]) != 0, err
}

// Increment adds to the number that a key has, and returns the sum, whoever else adds to it at once. A key without a value
// has 0; the value is the number as decimal text.
func (s *Store) Increment(key string, delta int64) (int64, error) {
	answer := new(stateAnswer)
	words.Reset()
	atomicsIncrement(s.handle, unsafe.StringData(key), uint32(len(key)), delta, answer)
	if answer.isError() {
		return 0, answer.err(2)
	}
	return int64(answer.pairs[1]), nil
}

// CompareAndSwap replaces the value of a key if it is the one expected, nil for none; it reports whether it was.
func (s *Store) CompareAndSwap(key string, expected, value []byte) (swapped bool, err error) {
	opened, err := ask(func(a *stateAnswer) { casNew(s.handle, unsafe.StringData(key), uint32(len(key)), a) })
	if err != nil {
		return false, err
	}
	cas := opened.words()[1]
	current, exists, err := askValue(func(a *stateAnswer) { casCurrent(cas, a) })
	if err != nil || exists != (expected != nil) || !bytes.Equal(current, expected) {
		dropCas(cas)
		return false, err
	}
	answer := new(stateAnswer)
	words.Reset()
	atomicsSwap(cas, unsafe.SliceData(value), uint32(len(value)), answer)
	switch {
	case !answer.isError():
		return true, nil
	case uint8(answer.words()[1]) == 0:
		return false, answer.err(2)
	}
	// Somebody else was faster; it is what the value is now.
	dropCas(answer.words()[2])
	return false, nil
}

// Keys has all keys that begin with prefix, in order. It has the whole store looked through.
func (s *Store) Keys(prefix string) ([]string, error) {
	var keys []string
	var cursor string
	for hasCursor := uint32(0); ; hasCursor = 1 {
		answer, err := ask(func(a *stateAnswer) {
			withStoreRoom(func() {
				bucketListKeys(s.handle, hasCursor, unsafe.StringData(cursor), uint32(len(cursor)), a)
			})
		})
		if err != nil {
			return nil, err
		}
		page := answer.words()
		for _, words := range unsafe.Slice((*[2]uint32)(unsafe.Pointer(uintptr(page[1]))), page[2]) {
			if key := abi.Lifted(words); strings.HasPrefix(key, prefix) {
				keys = append(keys, key)
			}
		}
		if uint8(page[3]) == 0 {
			slices.Sort(keys)
			// A store may show a key twice that others work on meanwhile.
			return slices.Compact(keys), nil
		}
		cursor = abi.Lifted([2]uint32(page[4:6]))
	}
}

// Close lets go of the store, which stays as it is.
func (s *Store) Close() error {
	dropBucket(s.handle)
	return nil
}

// stateAnswer is any `result` of the interfaces: words, by twos since a number is aligned so. The first says whether it is an
// error.
type stateAnswer struct {
	_     structs.HostLayout
	pairs [3]uint64
}

func (a *stateAnswer) words() *[6]uint32 {
	return (*[6]uint32)(unsafe.Pointer(&a.pairs))
}

func (a *stateAnswer) isError() bool {
	return uint8(a.words()[0]) != 0
}

// err is the error whose tag is in that word.
func (a *stateAnswer) err(word int) error {
	switch uint8(a.words()[word]) {
	case 0:
		return ErrNoSuchStore
	case 1:
		return ErrAccessDenied
	}
	return Error(abi.Lifted([2]uint32(a.words()[word+1 : word+3])))
}

// ask makes a call whose answer has what it has from the second word on.
func ask(call func(answer *stateAnswer)) (*stateAnswer, error) {
	answer := new(stateAnswer)
	words.Reset()
	call(answer)
	if answer.isError() {
		return nil, answer.err(1)
	}
	return answer, nil
}

func askValue(call func(answer *stateAnswer)) (value []byte, exists bool, err error) {
	answer, err := ask(func(a *stateAnswer) { withStoreRoom(func() { call(a) }) })
	if err != nil || uint8(answer.words()[1]) == 0 {
		return nil, false, err
	}
	return []byte(abi.Lifted([2]uint32(answer.words()[2:4]))), true, nil
}

// Where the host puts values and pages of keys, each of which is copied at once.
var storeRoom []byte

// withStoreRoom makes a call that returns a value, or a page of keys, which is a thousand of the longest that a server allows
// unless it is told otherwise.
func withStoreRoom(call func()) {
	if size := max(MaxValueSize, 1<<20) + 1<<16; len(storeRoom) < size {
		storeRoom = make([]byte, size)
	}
	abi.Room = storeRoom
	defer func() { abi.Room = nil }()
	call()
}

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 open
func storeOpen(name *byte, length uint32, answer *stateAnswer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.get
func bucketGet(bucket uint32, key *byte, length uint32, answer *stateAnswer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.set
func bucketSet(bucket uint32, key *byte, length uint32, value *byte, size uint32, answer *stateAnswer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.delete
func bucketDelete(bucket uint32, key *byte, length uint32, answer *stateAnswer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.exists
func bucketExists(bucket uint32, key *byte, length uint32, answer *stateAnswer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.list-keys
func bucketListKeys(bucket, hasCursor uint32, cursor *byte, length uint32, answer *stateAnswer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [resource-drop]bucket
func dropBucket(bucket uint32)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 increment
func atomicsIncrement(bucket uint32, key *byte, length uint32, delta int64, answer *stateAnswer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 [static]cas.new
func casNew(bucket uint32, key *byte, length uint32, answer *stateAnswer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 [method]cas.current
func casCurrent(cas uint32, answer *stateAnswer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 swap
func atomicsSwap(cas uint32, value *byte, size uint32, answer *stateAnswer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 [resource-drop]cas
func dropCas(cas uint32)
