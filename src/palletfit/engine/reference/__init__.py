"""The reference engine: pyhf makes the fits, and every minimum is checked."""
