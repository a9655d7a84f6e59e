"""What unlearning is used for, beyond requests to forget: one application per file."""
