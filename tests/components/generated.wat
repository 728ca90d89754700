;; A handler whose first module is replaced by generated ones with the same imports and exports.
(component
  (import "plugsock:handler/types@0.1.0" (instance $types (export "request" (type (sub resource)))))
  (alias export $types "request" (type $request))
  (core func $drop (canon resource.drop $request))
  (core module $generated
    (import "host" "drop" (func (param i32)))
    (memory (export "memory") 1 64)
    (func (export "run") (param i32 i64 f32 f64) (result i32) (i32.const 0)))
  ;; Gives the request back, as a phase must, runs the generated code, and says that all is well.
  (core module $phases
    (import "host" "drop" (func $drop (param i32)))
    (import "generated" "run" (func $run (param i32 i64 f32 f64) (result i32)))
    (memory (export "memory") 1)
    (func (export "phase") (param i32) (result i32)
      (call $drop (local.get 0))
      (drop (call $run (i32.const 1) (i64.const -1) (f32.const 0.5) (f64.const inf)))
      (i32.const 0)))
  (core instance $host (export "drop" (func $drop)))
  (core instance $run (instantiate $generated (with "host" (instance $host))))
  (core instance $instance
    (instantiate $phases (with "host" (instance $host)) (with "generated" (instance $run))))
  (func $phase (param "request" (borrow $request)) (result (result (error string)))
    (canon lift (core func $instance "phase") (memory $instance "memory")))
  (instance $handler (export "setup" (func $phase)) (export "handle" (func $phase)) (export "finish" (func $phase)))
  (export "plugsock:handler/request-handler@0.1.0" (instance $handler)))
