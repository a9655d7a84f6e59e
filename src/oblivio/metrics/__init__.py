"""How well it was forgotten, one family of measures per file: `(trial, run) -> {name: number}`."""
