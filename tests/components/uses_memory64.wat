;; Has a memory with addresses of 64 bits.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") i64 1)
  ;; One buffer: three bytes at 16.
  (data (i64.const 0) "\10\00\00\00\03\00\00\00")
  (data (i64.const 16) "ok\n")
  (func $say_ok (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "_start")
    (i64.store (i64.const 1024) (i64.const 7))
    (if (i64.eq (i64.load (i64.const 1024)) (i64.const 7)) (then (call $say_ok))))
)
