"""Memory and time of a run before anything is loaded: from the model's config, the settings and the method's workload.

Knows no method by name: what is held and computed is what `tunesmith.Method.workload` declares.
"""
