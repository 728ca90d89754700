;; A program for WASI preview 1 that writes until it gets an error code, and exits with that as its status.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\00\04\00\00\00\40\00\00")
  (func (export "_start") (local $errno i32)
    (loop $more
      (local.set $errno (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br_if $more (i32.eqz (local.get $errno))))
    (call $exit (local.get $errno))))
