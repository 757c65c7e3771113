"""Upper limits on the signal strength."""

from palletfit.products.limits.product import Limits

__all__ = ["PRODUCT", "Limits"]

PRODUCT = Limits
