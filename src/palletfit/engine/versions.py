"""The engines that fit, and the versions that records are made with.

Imports nothing: every process of the workflow has to know when records are outdated.
"""

from __future__ import annotations

#: Part of every record's key: raise it when a change of the engine changes results.
VERSIONS = {
    # Patches that the batched engine does not take go to the other one.
    "batched": "batched-7+reference-3",
    "reference": "reference-3",
}
