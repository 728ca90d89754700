;; Keeps all that it makes, in what the host collects.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; One buffer: three bytes at 16.
  (data (i32.const 0) "\10\00\00\00\03\00\00\00")
  (data (i32.const 16) "ok\n")
  (func $say_ok (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (type $numbers (array (mut i32)))
  (type $list (struct (field $value (ref $numbers)) (field $next (ref null $list))))
  (func (export "_start")
    (local $kept (ref null $list))
    (loop $again
      (local.set $kept
        (struct.new $list (array.new $numbers (i32.const 1) (i32.const 1000)) (local.get $kept)))
      (br $again)))
)
