"""Large scans: the points of a table, or of a function, tested in bounded memory.

Imports nothing heavy: workers need :mod:`palletfit.products.points.compute` only, and no Parquet.
"""

from palletfit.products.points.product import Points

__all__ = ["PRODUCT", "Points"]

PRODUCT = Points
