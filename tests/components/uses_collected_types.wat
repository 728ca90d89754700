;; Makes a million lists of which it keeps one, in what the host collects.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; One buffer: three bytes at 16.
  (data (i32.const 0) "\10\00\00\00\03\00\00\00")
  (data (i32.const 16) "ok\n")
  (func $say_ok (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (type $list (struct (field $value i32) (field $next (ref null $list))))
  (type $numbers (array (mut i32)))
  (func (export "_start")
    (local $made i32) (local $kept (ref null $list)) (local $numbers (ref null $numbers))
    (local.set $kept (struct.new $list (i32.const 42) (ref.null $list)))
    (loop $again
      (local.set $numbers (array.new $numbers (local.get $made) (i32.const 16)))
      (drop (struct.new $list (local.get $made) (local.get $kept)))
      (br_if $again
        (i32.lt_u (local.tee $made (i32.add (local.get $made) (i32.const 1))) (i32.const 1000000))))
    (if (i32.and
          (i32.eq (struct.get $list $value (local.get $kept)) (i32.const 42))
          (i32.eq (array.get $numbers (local.get $numbers) (i32.const 15)) (i32.const 999999)))
      (then (call $say_ok))))
)
