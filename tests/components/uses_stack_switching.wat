;; Makes a continuation.
(module
  (type $function (func))
  (type $continuation (cont $function))
  (memory (export "memory") 1)
  (elem declare func $nothing)
  (func $nothing)
  (func (export "_start") (drop (cont.new $continuation (ref.func $nothing))))
)
