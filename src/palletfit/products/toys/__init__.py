"""CLs from pseudo-experiments."""
