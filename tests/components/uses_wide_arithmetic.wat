;; Adds numbers of 128 bits.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; One buffer: three bytes at 16.
  (data (i32.const 0) "\10\00\00\00\03\00\00\00")
  (data (i32.const 16) "ok\n")
  (func $say_ok (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "_start")
    (i64.add128 (i64.const -1) (i64.const 0) (i64.const 1) (i64.const 0))
    i64.const 1
    i64.eq
    if (param i64)
      i64.eqz
      if
        call $say_ok
      end
    else
      drop
    end)
)
