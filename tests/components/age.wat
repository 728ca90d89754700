;; A handler that notes the time when it is instantiated, and ends with the error "old" 40 ms later and with "young"
;; before.
(component
  (import "plugsock:handler/types@0.1.0" (instance $types (export "request" (type (sub resource)))))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock (export "now" (func (result u64)))))
  (alias export $types "request" (type $request))
  (alias export $clock "now" (func $now))
  (core func $drop (canon resource.drop $request))
  (core func $now (canon lower (func $now)))
  (core module $module
    (import "host" "drop" (func $drop (param i32)))
    (import "host" "now" (func $now (result i64)))
    (memory (export "memory") 1)
    ;; Errors as the canonical ABI has them: that it is one, and the text.
    (data (i32.const 0) "\01\00\00\00\20\00\00\00\03\00\00\00")
    (data (i32.const 16) "\01\00\00\00\28\00\00\00\05\00\00\00")
    (data (i32.const 32) "old")
    (data (i32.const 40) "young")
    (global $made (mut i64) (i64.const 0))
    (start $note)
    (func $note (global.set $made (call $now)))
    (func (export "idle") (param i32) (result i32)
      (call $drop (local.get 0))
      (i32.const 64))
    (func (export "tell") (param i32) (result i32)
      (call $drop (local.get 0))
      (select (i32.const 0) (i32.const 16)
        (i64.ge_u (i64.sub (call $now) (global.get $made)) (i64.const 40000000)))))
  (core instance $instance (instantiate $module
    (with "host" (instance (export "drop" (func $drop)) (export "now" (func $now))))))
  (func $idle (param "request" (borrow $request)) (result (result (error string)))
    (canon lift (core func $instance "idle") (memory $instance "memory")))
  (func $tell (param "request" (borrow $request)) (result (result (error string)))
    (canon lift (core func $instance "tell") (memory $instance "memory")))
  (instance $handler
    (export "setup" (func $idle))
    (export "handle" (func $tell))
    (export "finish" (func $idle)))
  (export "plugsock:handler/request-handler@0.1.0" (instance $handler)))
