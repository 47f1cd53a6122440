"""Sources, rows, examples, token trees, packed batches."""
