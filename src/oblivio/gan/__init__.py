"""GANs forget: one way per file."""
