;; A handler that is refused to grow, and what it does then. The number of the request says which: see `$act`.
(component
  (import "plugsock:handler/types@0.1.0" (instance $types
    (export "request" (type $request (sub resource)))
    (export "[method]request.id" (func (param "self" (borrow $request)) (result u64)))))
  (alias export $types "request" (type $request))
  (alias export $types "[method]request.id" (func $id))
  (core func $id (canon lower (func $id)))
  (core func $drop (canon resource.drop $request))
  (core module $module
    (import "host" "id" (func $id (param i32) (result i64)))
    (import "host" "drop" (func $drop (param i32)))
    (memory (export "memory") 1)
    (table $table 1 funcref)
    ;; More than is allowed, and less.
    (func $memory_refused
      (if (i32.ne (memory.grow (i32.const 1000)) (i32.const -1)) (then (loop (br 0)))))
    (func $table_refused
      (if (i32.ne (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1)) (then (loop (br 0)))))
    (func $memory_grown
      (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (loop (br 0)))))
    (func $table_grown
      (if (i32.eq (table.grow $table (ref.null func) (i32.const 1)) (i32.const -1)) (then (loop (br 0)))))
    (func $other_trap (drop (i32.div_s (i32.const 1) (i32.const 0))))

    (func $act (param $number i32) (param $request i32)
      (block $later (block $called (block $grown_table (block $grown_memory (block $other_table (block $other_memory
      (block $table (block $memory
        (br_table $memory $table $other_memory $other_table $grown_memory $grown_table $called $later
          (local.get $number)))
        (call $memory_refused) (unreachable))
        (call $table_refused) (unreachable))
        (call $memory_refused) (call $other_trap))
        (call $table_refused) (call $other_trap))
        (call $memory_refused) (call $memory_grown) (unreachable))
        (call $table_refused) (call $table_grown) (unreachable))
        (call $memory_refused) (drop (call $id (local.get $request))) (unreachable))
      ;; In `setup`; `handle` traps.
      (call $memory_refused))

    (func (export "setup") (param $request i32) (result i32)
      (call $act (i32.sub (i32.wrap_i64 (call $id (local.get $request))) (i32.const 1)) (local.get $request))
      (call $drop (local.get $request))
      (i32.const 64))
    (func (export "handle") (param i32) (result i32) (unreachable)))
  (core instance $instance (instantiate $module
    (with "host" (instance (export "id" (func $id)) (export "drop" (func $drop))))))
  (func $setup (param "request" (borrow $request)) (result (result (error string)))
    (canon lift (core func $instance "setup") (memory $instance "memory")))
  (func $handle (param "request" (borrow $request)) (result (result (error string)))
    (canon lift (core func $instance "handle") (memory $instance "memory")))
  (instance $handler (export "setup" (func $setup)) (export "handle" (func $handle)) (export "finish" (func $handle)))
  (export "plugsock:handler/request-handler@0.1.0" (instance $handler)))
