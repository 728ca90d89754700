;; A program that asks for a random number already when it is instantiated.
(component
  (import "wasi:random/random@0.2.0" (instance $random (export "get-random-u64" (func (result u64)))))
  (alias export $random "get-random-u64" (func $get))
  (core func $get (canon lower (func $get)))
  (core module $module
    (import "random" "get" (func $get (result i64)))
    (func $draw (drop (call $get)))
    (start $draw)
    (func (export "run") (result i32) (i32.const 0)))
  (core instance $instance (instantiate $module
    (with "random" (instance (export "get" (func $get))))))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
