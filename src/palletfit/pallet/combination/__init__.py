"""Combine likelihoods into one workspace with one patch for each signal point.

pyhf renames, prunes and joins the workspaces. This package does the rest: it identifies common
parameters, compares their settings and types, refuses events that count twice, and rewrites the
members' patches as one patch of the combined workspace.
"""

from __future__ import annotations

from palletfit.pallet.combination.combine import Combined, combine, combine_region

__all__ = ["Combined", "combine", "combine_region"]
