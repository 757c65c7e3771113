"""The static site of the catalogue: what was fitted, how it is known to be right, what is missing.

``gather`` reads results that exist, and ``pages`` writes HTML of them. No script, no network.
"""

from palletfit.publish.site.gather import Fitted, gather
from palletfit.publish.site.pages import write

__all__ = ["Fitted", "gather", "write"]
