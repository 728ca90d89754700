;; A program that asks for the seed of a hash table already when it is instantiated.
(component
  (import "wasi:random/insecure-seed@0.2.0" (instance $random
    (export "insecure-seed" (func (result (tuple u64 u64))))))
  (alias export $random "insecure-seed" (func $seed))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $seed (canon lower (func $seed) (memory $memory "memory")))
  (core module $module
    (import "random" "seed" (func $seed (param i32)))
    (func $ask (call $seed (i32.const 0)))
    (start $ask)
    (func (export "run") (result i32) (i32.const 0)))
  (core instance $instance (instantiate $module
    (with "random" (instance (export "seed" (func $seed))))))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
