"""Loading, adapting and saving models, and the roles they play in a run."""
