;; A handler that makes handles to a resource of its own, without end, and drops none.
(component
  (import "plugsock:handler/types@0.1.0" (instance $types
    (export "request" (type $request (sub resource)))))
  (alias export $types "request" (type $request))
  (type $own (resource (rep i32)))
  (core func $new (canon resource.new $own))
  (core module $module
    (import "host" "new" (func $new (param i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "setup") (param i32) (result i32)
      (loop $again (drop (call $new (i32.const 1))) (br $again)) (unreachable)))
  (core instance $instance (instantiate $module (with "host" (instance (export "new" (func $new))))))
  (func $setup (param "request" (borrow $request)) (result (result (error string)))
    (canon lift (core func $instance "setup") (memory $instance "memory")))
  (instance $handler (export "setup" (func $setup)) (export "handle" (func $setup)) (export "finish" (func $setup)))
  (export "plugsock:handler/request-handler@0.1.0" (instance $handler)))
