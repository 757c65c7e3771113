"""Pages for a browser: the live page of a run, and the interactive page of an exclusion."""
