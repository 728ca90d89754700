;; A program for WASI preview 1 without a memory.
(module
  (func (export "_start")))
