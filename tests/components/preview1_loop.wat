;; A program for WASI preview 1 that never ends.
(module
  (memory (export "memory") 1)
  (func (export "_start") (loop $more (br $more))))
