;; A program for WASI preview 1 with a global variable of a type that no core dump can hold, which traps.
(module
  (memory (export "memory") 1)
  (global $kept (mut exnref) (ref.null exn))
  (func (export "_start") (unreachable)))
