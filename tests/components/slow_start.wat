;; A program that computes for a while when it is instantiated, and then does nothing.
(component
  (core module $module
    (memory 1)
    (start $compute)
    (func $compute (local $left i32)
      (local.set $left (i32.const 500000000))
      (loop $more
        (i32.store (i32.const 0) (local.get $left))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if $more (i32.load (i32.const 0)))))
    (func (export "run") (result i32) (i32.const 0)))
  (core instance $instance (instantiate $module))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
