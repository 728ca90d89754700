;; A library for WASI preview 1: nothing in it runs by itself.
(module
  (memory (export "memory") 1)
  (func (export "_initialize")))
