;; Handles exceptions as engines did before the proposal was finished.
(module
  (memory (export "memory") 1)
  (tag $failed)
  (func (export "_start")
    try
      throw $failed
    catch $failed
    end)
)
