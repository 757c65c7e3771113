"""Goodness of fit in the saturated model."""

from palletfit.products.gof.product import Goodness

__all__ = ["PRODUCT", "Goodness"]

PRODUCT = Goodness
