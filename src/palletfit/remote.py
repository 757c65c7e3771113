"""The function that Globus Compute endpoints call: ``palletfit.remote.call``.

The function that clients register imports this module by its name, so the name stays.
"""

from palletfit.runs.remote import call

__all__ = ["call"]
