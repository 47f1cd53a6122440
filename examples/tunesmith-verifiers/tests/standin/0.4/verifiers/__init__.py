"""Stands in for verifiers 0.4 in tests: what the bridge calls of it, behaving as the library does. See README.md."""
