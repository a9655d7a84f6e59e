"""Speed against the plain way: every figure is a ratio of two times taken in one run."""
