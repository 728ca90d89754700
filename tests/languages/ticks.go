// Does not wait for its input, and prints meanwhile.
package main

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

func main() {
	if err := syscall.SetNonblock(0, true); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	go func() {
		for number := 1; ; number++ {
			time.Sleep(200 * time.Millisecond)
			fmt.Println("tick", number)
		}
	}()
	input, err := io.ReadAll(os.NewFile(0, "input"))
	fmt.Printf("%q %v\n", input, err)
}
