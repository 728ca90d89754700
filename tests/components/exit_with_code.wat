;; A program that exits with status 42 by the call that WASI 0.2.12 added.
(component
  (import "wasi:cli/exit@0.2.12" (instance $exit
    (export "exit-with-code" (func (param "status-code" u8)))))
  (alias export $exit "exit-with-code" (func $with-code))
  (core func $with-code (canon lower (func $with-code)))
  (core module $module
    (import "exit" "with-code" (func $exit (param i32)))
    (func (export "run") (result i32)
      (call $exit (i32.const 42))
      unreachable))
  (core instance $instance (instantiate $module
    (with "exit" (instance (export "with-code" (func $with-code))))))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.12" (instance $command)))
