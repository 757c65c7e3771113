"""Fits and hypothesis tests of likelihoods: the batched engine, and pyhf as the reference.

Imports nothing, so that a program that needs one part does not load the others.
"""
