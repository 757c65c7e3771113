"""Several likelihoods as one: a combined workspace, and one patch for each signal point.

pyhf renames, prunes and joins the workspaces. Here is what it leaves to its users: which parameters
are one, that their settings and types agree, that no events are counted twice, and the patches of
the members as one patch whose pointers are those of the combined workspace.
"""

from __future__ import annotations

from palletfit.pallet.combination.combine import Combined, combine, combine_region

__all__ = ["Combined", "combine", "combine_region"]
