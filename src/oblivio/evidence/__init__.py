"""Measures over many shadow models, one a file: what a strong attacker finds."""
