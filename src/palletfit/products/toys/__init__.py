"""CLs from pseudo-experiments."""

from palletfit.products.toys.product import Toys

__all__ = ["PRODUCT", "Toys"]

PRODUCT = Toys
