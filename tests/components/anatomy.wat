;; A program of which one module is as LLVM links it; of the others a linker has put the stack above the data, one has a
;; stack of which the names tell, and one has none.
(component
  (import "wasi:random/random@0.2.0" (instance $random (export "get-random-u64" (func (result u64)))))
  (alias export $random "get-random-u64" (func $get))
  (core func $get (canon lower (func $get)))
  (core module $main
    (import "wasi:random/random@0.2.0" "called" (func $called (result i64)))
    (import "wasi:random/random@0.2.0" "in-table" (func $in_table (result i64)))
    (import "wasi:random/random@0.2.0" "exported" (func $exported (result i64)))
    (import "wasi:random/random@0.2.0" "referred" (func $referred (result i64)))
    (import "wasi:random/random@0.2.0" "forgotten" (func $forgotten (result i64)))
    (import "of-another-module" "forgotten" (func (result i64)))
    (memory 3 8)
    (global $count (mut i32) (i32.const 16))
    (global $pointer (mut i32) (i32.const 32768))
    (table 5 7 funcref)
    (elem (i32.const 1) func $in_table)
    (elem declare func $referred)
    (data (i32.const 32768) "above the stack")
    (export "get" (func $exported))
    (func (export "run") (result i32)
      (local $frame i32)
      (global.set $count (i32.add (global.get $count) (i32.const 1)))
      (global.set $pointer (local.tee $frame (i32.sub (global.get $pointer) (i32.const 16))))
      (drop (call $called))
      (drop (ref.func $referred))
      (global.set $pointer (i32.add (local.get $frame) (i32.const 16)))
      (i32.const 0)))
  (component
    (core module
      (memory 1)
      (global $pointer (mut i32) (i32.const 4096))
      (data (i32.const 1024) "below the stack")
      (func (local $frame i32)
        (global.set $pointer (local.tee $frame (i32.sub (global.get $pointer) (i32.const 16))))))
    (core module
      (memory 1)
      (global $__stack_pointer (mut i32) (i32.const 1024)))
    (core module
      (memory 2)))
  (core instance $instance (instantiate $main
    (with "of-another-module" (instance (export "forgotten" (func $get))))
    (with "wasi:random/random@0.2.0" (instance
      (export "called" (func $get))
      (export "in-table" (func $get))
      (export "exported" (func $get))
      (export "referred" (func $get))
      (export "forgotten" (func $get))))))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
