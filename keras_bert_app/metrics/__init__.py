"""How good answers are: the measures of each field, in NumPy."""
