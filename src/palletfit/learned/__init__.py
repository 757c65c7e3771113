"""Learned likelihoods: networks that stand for a likelihood, and where they are wrong.

The package `onnx`, which reads and evaluates networks, is optional and imported in
:mod:`palletfit.learned.network` only.
"""
