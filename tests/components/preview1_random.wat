;; A program that asks for random numbers already when it is instantiated, and answers with others.
(module
  (import "wasi_snapshot_preview1" "random_get" (func $get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; What is written: 16 bytes from 16 on.
  (data (i32.const 0) "\10\00\00\00\10\00\00\00")
  (func $draw (drop (call $get (i32.const 16) (i32.const 16))))
  (start $draw)
  (func (export "_start")
    (call $draw)
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))
