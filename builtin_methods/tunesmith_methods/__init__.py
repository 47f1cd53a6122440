"""The built-in training methods, one folder each, and their objectives."""
