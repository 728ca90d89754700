;; Exports the contract's names with other types.
(component
  (core module $module (func (export "phase")))
  (core instance $instance (instantiate $module))
  (func $phase (canon lift (core func $instance "phase")))
  (instance $handler
    (export "setup" (func $phase))
    (export "handle" (func $phase))
    (export "finish" (func $phase)))
  (export "plugsock:handler/request-handler@0.1.0" (instance $handler)))
