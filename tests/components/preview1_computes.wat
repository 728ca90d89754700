;; A program for WASI preview 1 that computes for a while: a hundred million rounds.
(module $computing
  (memory (export "memory") 1)
  (func $spin (param $rounds i32)
    (loop $more
      (local.set $rounds (i32.sub (local.get $rounds) (i32.const 1)))
      (br_if $more (local.get $rounds))))
  (func (export "_start") (call $spin (i32.const 100000000))))
