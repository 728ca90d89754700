;; A program that calls what WASI preview 1 does not have.
(module
  (import "wasi_snapshot_preview1" "sock_hammer" (func))
  (memory (export "memory") 1)
  (func (export "_start")))
