"""Answers of tasks in the graph, for models that are served: the same as those in Python."""
