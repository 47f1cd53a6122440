"""First-party plugins that are neither methods nor rewards."""
