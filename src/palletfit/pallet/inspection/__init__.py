"""Inspection of published likelihoods: find what is in a source, and propose an analysis of it.

Nothing is recognised by its name. ``sources`` opens a DOI, an address, an archive, a folder or a
file, and reads the files in it at all depths. ``finding`` recognises workspaces, patchsets, files
of operations and more. ``pairing`` finds which belong together. ``proposal`` makes analyses of
them with the ``planes`` of their points, and ``writing`` makes files of these. ``table`` shows all
of it.
"""

from palletfit.pallet.inspection.report import Inspection, inspect

__all__ = ["Inspection", "inspect"]
