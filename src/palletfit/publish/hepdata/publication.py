"""Content of a submission, and the names of its planes and curves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palletfit.config import Analysis
from palletfit.planes.contour import CURVES
from palletfit.runs.results import RegionResults

#: Longest name of a table.
LONGEST_NAME = 64
#: Names of the tables of contours, which also give their files' names.
CURVE_TITLES = {
    name: f"{name.partition('_')[0].capitalize()} contour"
    + re.sub(r"^.*_(minus|plus)(\d)$", r" \1 \2 sigma", name if "_" in name else "")
    for name in CURVES.values()
}


@dataclass(frozen=True)
class Publication:
    """What goes into a submission.

    Attributes
    ----------
    analysis
        The analysis file.
    results
        Content of ``results.json``.
    regions
        The records of the regions that were fitted.
    files
        For each region the sha256 of its ``workspace`` and ``patchset``, as they are in the pallet.
    contours
        By plane: content of ``contour.json``. Empty where there are none (p0).
    images
        By plane: the plot as PNG.
    limits
        Content of ``limits.json``, if there are limits: by patch ``mass_hypotheses``, ``status``,
        ``mu_obs``, ``mu_exp`` (five, in pyhf's order), and ``upper_limit_obs_pb``,
        ``upper_limit_exp_pb`` where cross sections are known.
    """

    analysis: Analysis
    results: Mapping[str, Mapping[str, Any]]
    regions: Sequence[RegionResults]
    files: Mapping[str, Mapping[str, str]]
    contours: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    images: Mapping[str, Path] = field(default_factory=dict)
    limits: Mapping[str, Mapping[str, Any]] | None = None

    @property
    def settings(self) -> Mapping[str, Any]:
        """Fit settings, from the records."""
        record = next(iter(self.regions[0].records.values()))
        settings: Mapping[str, Any] = record["key"]["settings"]
        return settings

    @property
    def quantity(self) -> str:
        """What the p-values are called: q0 is a test of discovery."""
        return "p0" if self.settings["test_statistic"] == "q0" else "CLs"

    @property
    def plane_names(self) -> dict[str, str]:
        """What the names of a plane's tables end with.

        Nothing if there is one plane; a number instead of its name if names are so long, or so
        alike, that tables or their files would have no names of their own.
        """
        planes = list(self.analysis.planes)
        longest = LONGEST_NAME - max(map(len, CURVE_TITLES.values())) - 1
        unlike = len({name.lower() for name in planes}) == len(planes)
        if len(planes) == 1:
            return {planes[0]: ""}
        if unlike and max(map(len, planes)) <= longest:
            return {name: f" {name}" for name in planes}
        return {name: f" plane {number}" for number, name in enumerate(planes, 1)}
