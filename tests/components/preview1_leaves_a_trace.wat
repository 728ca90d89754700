;; A program for WASI preview 1 that writes to its memory what is known, calls one more function, and traps.
(module $traced
  (memory (export "memory") 3)
  (global $count (mut i32) (i32.const 41))
  (data (i32.const 70000) "known before")
  (func $outer (call $inner))
  (func $inner
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (i64.store (i32.const 140000) (i64.const 0x746867696c796164))
    (unreachable))
  (func (export "_start") (call $outer)))
