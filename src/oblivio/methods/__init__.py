"""How to forget, one published method per file: `(model, split, run) -> model`."""
