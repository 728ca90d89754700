;; A program that traps in a function, and in a module, with names that look like lines of a log.
(component
  (core module $"module\0d\0a\1b]0;title\07"
    (func $"function\1b[31m\0a2026-01-01T00:00:00.000000Z ERROR forged" (unreachable))
    (func (export "run") (result i32)
      (call $"function\1b[31m\0a2026-01-01T00:00:00.000000Z ERROR forged")
      (i32.const 0)))
  (core instance $instance (instantiate $"module\0d\0a\1b]0;title\07"))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
