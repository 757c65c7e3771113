"""Fetch pallets and published tables: from the download cache, the network, or a local file.

Requests go to allowed hosts only, over https; so do all redirects. A file appears at its
destination only when it is complete and of the expected kind.
"""

from palletfit.pallet.download.cache import ARCHIVE_ENDINGS
from palletfit.pallet.download.fetch import (
    circumstances,
    fetch_pallet,
    fetch_published,
    is_cached,
)

__all__ = ["ARCHIVE_ENDINGS", "circumstances", "fetch_pallet", "fetch_published", "is_cached"]
