"""What is to be forgotten, one scenario per file: `(train, seed) -> Split`."""
