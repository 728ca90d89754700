;; A program for WASI preview 1 that reads nothing, writes nothing, and ends.
(module
  (memory (export "memory") 1)
  (func (export "_start")))
