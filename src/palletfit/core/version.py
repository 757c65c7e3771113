"""The version of palletfit."""

__version__ = "0.1.0"
