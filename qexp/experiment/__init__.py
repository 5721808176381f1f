"""One run, from its configuration to its summary: the only place that knows all the parts."""
