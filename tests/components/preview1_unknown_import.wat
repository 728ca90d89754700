;; A program for WASI preview 1 that was linked with a symbol missing.
(module
  (import "env" "hammer" (func))
  (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
  (memory (export "memory") 1)
  (func (export "_start")))
