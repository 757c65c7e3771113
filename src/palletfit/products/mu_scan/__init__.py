"""CLs as a function of the signal strength."""
