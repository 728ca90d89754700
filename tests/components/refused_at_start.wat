;; A program that is refused to grow when it is instantiated, and then traps for another reason.
(component
  (core module $module
    (memory (export "memory") 1)
    (func $start
      (drop (memory.grow (i32.const 65000)))
      (drop (i32.div_s (i32.const 1) (i32.const 0))))
    (start $start)
    (func (export "run") (result i32) (i32.const 0)))
  (core instance $instance (instantiate $module))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
