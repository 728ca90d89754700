;; A program for WASI preview 1 that imports what has a name like lines of a log.
(module
  (import "env\1b[31m" "hammer\0a2026-01-01T00:00:00.000000Z ERROR forged" (func))
  (memory (export "memory") 1)
  (func (export "_start")))
