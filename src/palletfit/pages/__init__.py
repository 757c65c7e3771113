"""Pages for a browser: the live page of a run, and the page to explore an exclusion."""
