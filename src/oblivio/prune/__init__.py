"""Which weights to remove, one pruner per file: `(model, data, run) -> Mask`. There is none yet."""
