"""Expand the vocabulary of a model: measure, learn pieces, merge them, start their rows, look at the result."""
