"""Synthetic likelihoods that palletfit makes itself, for demonstrations and tests."""

from palletfit.pallet.demo.electroweak import demo_patchset, demo_workspace

__all__ = ["demo_patchset", "demo_workspace"]
