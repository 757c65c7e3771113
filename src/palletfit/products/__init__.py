"""What can be asked of a patch: a package for each product, whose class is its ``PRODUCT``.

:mod:`palletfit.runs.product` has their base class, :mod:`palletfit.runs.registry` finds them.
"""
