"""CLs as a function of the signal strength."""

from palletfit.products.mu_scan.product import MuScan

__all__ = ["PRODUCT", "MuScan"]

PRODUCT = MuScan
