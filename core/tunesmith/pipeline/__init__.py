"""Pipelines: one file of stages, each a run or a command, wired by name, with gates between them."""
