;; Multiplies and adds in one instruction.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; One buffer: three bytes at 16.
  (data (i32.const 0) "\10\00\00\00\03\00\00\00")
  (data (i32.const 16) "ok\n")
  (func $say_ok (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "_start")
    (if (f32.eq
          (f32x4.extract_lane 2
            (f32x4.relaxed_madd (f32x4.splat (f32.const 3)) (f32x4.splat (f32.const 4)) (f32x4.splat (f32.const 5))))
          (f32.const 17))
      (then (call $say_ok))))
)
