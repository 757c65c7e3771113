"""Products of a patch: a package for each, whose class is its ``PRODUCT``.

:mod:`palletfit.runs.product` has their base class, :mod:`palletfit.runs.registry` finds them.
"""
