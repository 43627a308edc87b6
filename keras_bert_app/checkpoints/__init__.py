"""One module for each checkpoint format, and one with the names of all variables."""
