;; A main for Ruby as npm has it, which is a library for JavaScript: does what its loader there does, and evaluates
;; the first argument of the program. The others are its ARGV.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "ruby" "memory" (memory 0))
  (import "ruby" "_initialize" (func $initialize))
  (import "ruby" "cabi_realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
  (import "ruby" "ruby-init: func(args: list<string>) -> ()" (func $ruby_init (param i32 i32)))
  (import "ruby" "rb-eval-string-protect: func(str: string) -> tuple<handle<rb-abi-value>, s32>"
    (func $eval (param i32 i32) (result i32)))

  ;; Without a script of its own, Ruby would read one from standard input. Its library is not there.
  (data $options "-EUTF-8\00-e_=0\00--disable-all\00--\00")
  (data $script "begin; eval(ARGV.shift, TOPLEVEL_BINDING, '-e'); $stdout.flush; exit! 0\nrescue SystemExit => e; $stdout.flush; exit! e.status\nrescue Exception => e; $stderr.puts e.full_message(highlight: false); exit! 1; end\00")

  (func $allocate (param $size i32) (result i32)
    (call $realloc (i32.const 0) (i32.const 0) (i32.const 4) (local.get $size)))

  ;; Writes one string of a list, and returns where the next goes.
  (func $push (param $list i32) (param $start i32) (param $end i32) (result i32)
    (i32.store (local.get $list) (local.get $start))
    (i32.store offset=4 (local.get $list) (i32.sub (local.get $end) (local.get $start)))
    (i32.add (local.get $list) (i32.const 8)))

  (func (export "_start")
    (local $count i32) (local $size i32) (local $arguments i32) (local $texts i32) (local $options i32)
    (local $list i32) (local $next i32) (local $index i32) (local $end i32) (local $script i32)
    (call $initialize)

    (local.set $arguments (call $allocate (i32.const 8)))
    (drop (call $args_sizes_get (local.get $arguments) (i32.add (local.get $arguments) (i32.const 4))))
    (local.set $count (i32.load (local.get $arguments)))
    (local.set $size (i32.load offset=4 (local.get $arguments)))
    (local.set $arguments (call $allocate (i32.mul (local.get $count) (i32.const 4))))
    (local.set $texts (call $allocate (local.get $size)))
    (drop (call $args_get (local.get $arguments) (local.get $texts)))

    (local.set $options (call $allocate (i32.const 31)))
    (memory.init $options (local.get $options) (i32.const 0) (i32.const 31))
    (local.set $list (call $allocate (i32.mul (i32.add (local.get $count) (i32.const 4)) (i32.const 8))))
    (local.set $next (local.get $list))
    (loop $each
      (local.set $end
        (if (result i32) (i32.eq (i32.add (local.get $index) (i32.const 1)) (local.get $count))
          (then (i32.add (local.get $texts) (local.get $size)))
          (else (i32.load offset=4
            (i32.add (local.get $arguments) (i32.mul (local.get $index) (i32.const 4)))))))
      (local.set $next (call $push (local.get $next)
        (i32.load (i32.add (local.get $arguments) (i32.mul (local.get $index) (i32.const 4))))
        (local.get $end)))
      (if (i32.eqz (local.get $index)) (then
        (local.set $next (call $push (local.get $next)
          (local.get $options) (i32.add (local.get $options) (i32.const 8))))
        (local.set $next (call $push (local.get $next)
          (i32.add (local.get $options) (i32.const 8)) (i32.add (local.get $options) (i32.const 14))))
        (local.set $next (call $push (local.get $next)
          (i32.add (local.get $options) (i32.const 14)) (i32.add (local.get $options) (i32.const 28))))
        (local.set $next (call $push (local.get $next)
          (i32.add (local.get $options) (i32.const 28)) (i32.add (local.get $options) (i32.const 31))))))
      (local.set $index (i32.add (local.get $index) (i32.const 1)))
      (br_if $each (i32.lt_u (local.get $index) (local.get $count))))
    (call $ruby_init (local.get $list) (i32.add (local.get $count) (i32.const 4)))

    (local.set $script (call $allocate (i32.const 209)))
    (memory.init $script (local.get $script) (i32.const 0) (i32.const 209))
    (drop (call $eval (local.get $script) (i32.const 208)))
    ;; The script exits.
    unreachable))
