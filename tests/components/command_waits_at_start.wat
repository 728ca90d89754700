;; A program that waits for 20 ms when it is instantiated, and then does nothing.
(component
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $shared))
    (export "pollable" (type $its (eq $shared)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $its))))))
  (alias export $clock "subscribe-duration" (func $subscribe))
  (alias export $poll "[method]pollable.block" (func $block))
  (core func $subscribe (canon lower (func $subscribe)))
  (core func $block (canon lower (func $block)))
  (core func $drop (canon resource.drop $pollable))
  (core module $module
    (import "host" "subscribe" (func $subscribe (param i64) (result i32)))
    (import "host" "block" (func $block (param i32)))
    (import "host" "drop" (func $drop (param i32)))
    (start $wait)
    (func $wait (local $timer i32)
      (local.set $timer (call $subscribe (i64.const 20000000)))
      (call $block (local.get $timer))
      (call $drop (local.get $timer)))
    (func (export "run") (result i32) (i32.const 0)))
  (core instance $instance (instantiate $module
    (with "host" (instance
      (export "subscribe" (func $subscribe)) (export "block" (func $block)) (export "drop" (func $drop))))))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
