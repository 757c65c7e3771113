"""Fetch pallets and published tables: from the download cache, the network, or a local file.

Only allow-listed hosts are asked, over https, and this holds for every redirect on the way. A
file appears at its destination only when it is complete and is what was asked for.
"""

from palletfit.pallet.download.cache import ARCHIVE_ENDINGS
from palletfit.pallet.download.fetch import fetch_pallet, fetch_published

__all__ = ["ARCHIVE_ENDINGS", "fetch_pallet", "fetch_published"]
