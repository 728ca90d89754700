;; Has a memory that grows by single bytes.
(module
  (memory (export "memory") 100 (pagesize 1))
  (func (export "_start"))
)
