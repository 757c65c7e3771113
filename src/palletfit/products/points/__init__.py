"""Large scans: the points of a table, or of a function, tested in bounded memory.

Imports nothing: workers need :mod:`palletfit.products.points.compute` only, and no Parquet.
"""
