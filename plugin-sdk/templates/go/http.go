// Says hello, and to who posts something the same.
package main

import (
	"io"
	"net/http"

	"plugsock/wasihttp"
)

func answer(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		io.Copy(w, r.Body)
		return
	}
	io.WriteString(w, "hello\n")
}

func init() {
	wasihttp.Handle(http.HandlerFunc(answer))
}

func main() {}
