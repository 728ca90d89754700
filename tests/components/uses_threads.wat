;; Has a memory that threads would share.
(module
  (memory 1 1 shared)
  (func (export "_start"))
)
