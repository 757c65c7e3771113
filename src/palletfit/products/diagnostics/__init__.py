"""Pulls, impacts, correlations, yields and significance of the fits of a patch."""

from palletfit.products.diagnostics.product import Diagnostics

__all__ = ["PRODUCT", "Diagnostics"]

PRODUCT = Diagnostics
