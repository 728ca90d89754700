;; Asks for interfaces of Spin's, of wasmCloud's and of proposals to WASI, and for one that there is.
(component
  (import "wasi:cli/environment@0.2.6" (instance (export "get-arguments" (func (result (list string))))))
  (import "fermyon:spin/variables@2.0.0" (instance (export "get" (func))))
  (import "spin:postgres/postgres@3.0.0" (instance (export "open" (func))))
  (import "wasmcloud:bus/lattice@1.0.0" (instance (export "set-link-name" (func))))
  (import "wasi:blobstore/blobstore@0.2.0-draft" (instance (export "get-container" (func))))
  (import "wasi:config/store@0.2.0-rc.1" (instance (export "get" (func))))
  (import "wasi:messaging/consumer@0.2.0-draft" (instance (export "publish" (func))))
  (import "acme:tools/hammer@1.0.0" (instance (export "hit" (func)))))
