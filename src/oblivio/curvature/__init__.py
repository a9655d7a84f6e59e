"""Second-order quantities of a model: per-example gradients, Fisher information, its inverse."""
