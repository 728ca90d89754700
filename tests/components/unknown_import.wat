;; Asks for an interface that no host has.
(component
  (import "acme:tools/hammer@1.0.0" (instance (export "hit" (func)))))
