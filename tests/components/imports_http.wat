;; Asks for the HTTP of WASI.
(component
  (import "wasi:http/types@0.2.6" (instance (export "http-error-code" (func)))))
