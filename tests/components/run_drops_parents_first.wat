;; A program that lets go of a stream before what waits for it, five thousand times, as collectors do it.
(component
  (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $pollable (type $pollable))
    (export "input-stream" (type $input-stream (sub resource)))
    (export "[method]input-stream.subscribe"
      (func (param "self" (borrow $input-stream)) (result (own $pollable))))))
  (alias export $streams "input-stream" (type $input-stream))
  (import "wasi:cli/stdin@0.2.0" (instance $stdin
    (alias outer 1 $input-stream (type $input-stream))
    (export "get-stdin" (func (result (own $input-stream))))))
  (core func $get-stdin (canon lower (func $stdin "get-stdin")))
  (core func $subscribe (canon lower (func $streams "[method]input-stream.subscribe")))
  (core func $drop-stream (canon resource.drop $input-stream))
  (core func $drop-pollable (canon resource.drop $pollable))
  (core module $module
    (import "host" "get-stdin" (func $get-stdin (result i32)))
    (import "host" "subscribe" (func $subscribe (param i32) (result i32)))
    (import "host" "drop-stream" (func $drop-stream (param i32)))
    (import "host" "drop-pollable" (func $drop-pollable (param i32)))
    (func (export "run") (result i32)
      (local $stream i32) (local $first i32) (local $second i32) (local $left i32)
      (local.set $left (i32.const 5000))
      (loop $again
        (local.set $stream (call $get-stdin))
        (local.set $first (call $subscribe (local.get $stream)))
        (local.set $second (call $subscribe (local.get $stream)))
        (call $drop-stream (local.get $stream))
        (call $drop-pollable (local.get $first))
        (call $drop-pollable (local.get $second))
        (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
      (i32.const 0)))
  (core instance $instance (instantiate $module (with "host" (instance
    (export "get-stdin" (func $get-stdin))
    (export "subscribe" (func $subscribe))
    (export "drop-stream" (func $drop-stream))
    (export "drop-pollable" (func $drop-pollable))))))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
