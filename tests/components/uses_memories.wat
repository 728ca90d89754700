;; Has several memories, and copies between them.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; One buffer: three bytes at 16.
  (data (i32.const 0) "\10\00\00\00\03\00\00\00")
  (data (i32.const 16) "ok\n")
  (func $say_ok (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (memory $second 1)
  (memory $third 1)
  (memory $fourth 1)
  (data (memory $third) (i32.const 0) "OK\n")
  (func (export "_start")
    (memory.copy $second $third (i32.const 8) (i32.const 0) (i32.const 3))
    (memory.copy $fourth $second (i32.const 0) (i32.const 8) (i32.const 3))
    (memory.copy 0 $fourth (i32.const 16) (i32.const 0) (i32.const 1))
    (i32.store8 (i32.const 16) (i32.add (i32.load8_u (i32.const 16)) (i32.const 32)))
    (call $say_ok))
)
