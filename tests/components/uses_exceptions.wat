;; Throws, catches, and says so.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; One buffer: three bytes at 16.
  (data (i32.const 0) "\10\00\00\00\03\00\00\00")
  (data (i32.const 16) "ok\n")
  (func $say_ok (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (tag $failed (param i32))
  (func $throws (throw $failed (i32.const 42)))
  (func (export "_start")
    (block $caught (result i32)
      (try_table (catch $failed $caught) (call $throws))
      unreachable)
    (if (i32.eq (i32.const 42)) (then (call $say_ok))))
)
