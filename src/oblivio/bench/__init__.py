"""Experiments: a TOML file becomes cells, a cell a record, and records means and intervals."""
