"""Hypothesis tests of all patches, and the exclusion contours that follow from them."""

from palletfit.products.hypotest.product import Hypotest

__all__ = ["PRODUCT", "Hypotest"]

PRODUCT = Hypotest
