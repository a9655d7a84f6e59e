"""Many small models trained at once: stacked weights, one step for all."""
