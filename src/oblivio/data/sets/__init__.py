"""Data sets by name, one per file: frozen dataclasses whose call gives a `Source`."""
