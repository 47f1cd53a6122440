"""Completions and what rewards say of them."""
