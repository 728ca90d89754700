;; Exports something, which is no handler.
(component
  (core module $module (func (export "greet")))
  (core instance $instance (instantiate $module))
  (func $greet (canon lift (core func $instance "greet")))
  (export "greet" (func $greet)))
