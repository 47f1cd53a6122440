"""What is suspicious about data that a run could read: copies, leaks, one-sided answers, templates that do not fit."""
