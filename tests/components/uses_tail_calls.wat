;; Calls itself a million times, in no more stack than once.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; One buffer: three bytes at 16.
  (data (i32.const 0) "\10\00\00\00\03\00\00\00")
  (data (i32.const 16) "ok\n")
  (func $say_ok (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func $count (param $left i32)
    (if (i32.eqz (local.get $left)) (then (return_call $say_ok)))
    (return_call $count (i32.sub (local.get $left) (i32.const 1))))
  (func (export "_start") (return_call $count (i32.const 1000000)))
)
