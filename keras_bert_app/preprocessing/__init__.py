"""Text to tensors: the only part of the package that uses tensorflow-text."""
