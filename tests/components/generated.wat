;; A handler whose module is replaced by generated ones with the same imports and exports.
(component
  (import "plugsock:handler/types@0.1.0" (instance $types (export "request" (type (sub resource)))))
  (alias export $types "request" (type $request))
  (core func $drop (canon resource.drop $request))
  (core module $module
    (import "host" "drop" (func $drop (param i32)))
    (memory (export "memory") 1)
    (func (export "phase") (param i32) (result i32)
      (call $drop (local.get 0))
      (i32.const 0)))
  (core instance $instance (instantiate $module (with "host" (instance (export "drop" (func $drop))))))
  (func $phase (param "request" (borrow $request)) (result (result (error string)))
    (canon lift (core func $instance "phase") (memory $instance "memory")))
  (instance $handler (export "setup" (func $phase)) (export "handle" (func $phase)) (export "finish" (func $phase)))
  (export "plugsock:handler/request-handler@0.1.0" (instance $handler)))
