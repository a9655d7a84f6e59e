"""What was found, as a table and as a page: read from records, and from nothing else."""
