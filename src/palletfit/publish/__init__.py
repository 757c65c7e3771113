"""Results in the forms in which experiments and reinterpreters publish them."""
