;; Asks for a call that the sockets of WASI 0.2 do not have.
(component
  (import "wasi:sockets/tcp@0.2.6" (instance (export "hammer" (func)))))
