;; Never comes to its beginning.
(module
  (memory (export "memory") 1)
  (func $loops (loop (br 0)))
  (start $loops)
  (func (export "_start"))
)
