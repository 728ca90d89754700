;; A program for WASI 0.2.99, which succeeds.
(component
  (import "wasi:cli/environment@0.2.99" (instance $environment
    (export "get-arguments" (func (result (list string))))))
  (core module $module
    (func (export "run") (result i32) (i32.const 0)))
  (core instance $instance (instantiate $module))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.99" (instance $command)))
