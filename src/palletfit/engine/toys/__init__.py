"""Ensembles of pseudo-experiments, drawn and fitted many at a time."""
