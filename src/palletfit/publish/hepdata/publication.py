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
    """Content of a submission.

    Attributes
    ----------
    analysis
        The analysis file.
    results
        Content of ``results.json``.
    regions
        Records of the regions that were fitted.
    files
        SHA-256 of ``workspace`` and ``patchset`` of each region, as in the pallet.
    contours
        Content of ``contour.json`` by plane; empty if there are no contours (p0).
    images
        Plot of each plane as PNG.
    limits
        Content of ``limits.json``, if there are limits: by patch ``mass_hypotheses``, ``status``,
        ``mu_obs``, ``mu_exp`` (five, in pyhf's order), and ``upper_limit_obs_pb``,
        ``upper_limit_exp_pb`` if cross sections are known.
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
        """Fit settings of the records."""
        # Points that were not tested have none.
        records = self.regions[0].records.values()
        record = next(record for record in records if "settings" in record["key"])
        settings: Mapping[str, Any] = record["key"]["settings"]
        return settings

    @property
    def kinds(self) -> str:
        """Kinds of results at the begin of a sentence: blinded data give expected ones only."""
        return "Expected" if self.analysis.blinded else "Observed and expected"

    @property
    def choices(self) -> list[str]:
        """Sentences on which channels, bins and data the fits are of."""
        return [f"{words}." for words in self.analysis.choice_words]

    @property
    def quantity(self) -> str:
        """Name of the p-values, which is p0 for q0, a test of discovery."""
        return "p0" if self.settings["test_statistic"] == "q0" else "CLs"

    @property
    def plane_names(self) -> dict[str, str]:
        """Endings of the names of each plane's tables.

        The ending is empty if there is one plane. It is a number instead of the name of the plane
        if names are too long, or differ in case only, for unique names of tables and files.
        """
        planes = list(self.analysis.planes)
        longest = LONGEST_NAME - max(map(len, CURVE_TITLES.values())) - 1
        distinct = len({name.lower() for name in planes}) == len(planes)
        if len(planes) == 1:
            return {planes[0]: ""}
        if distinct and max(map(len, planes), default=0) <= longest:
            return {name: f" {name}" for name in planes}
        return {name: f" plane {number}" for number, name in enumerate(planes, 1)}
