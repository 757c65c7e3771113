"""Back ends of reinterpretation tools: the fits of palletfit, asked in the tools' own words.

:mod:`palletfit.backends.spey` is a back end of spey, :mod:`palletfit.backends.smodels` serves
SModelS. Both tools are optional, and each is imported in its own module only.
"""
