"""Synthetic likelihoods that palletfit makes itself, for demonstrations and tests."""
