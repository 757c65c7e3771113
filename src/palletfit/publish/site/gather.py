"""The results of an analysis that a site shows, as far as they are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palletfit.config import Analysis
from palletfit.config.catalogue import Likelihood, catalogue
from palletfit.core.files import read_json
from palletfit.errors import StoreError
from palletfit.planes.contour import UNTESTED
from palletfit.products.hypotest import Hypotest
from palletfit.runs.results import RegionResults

#: Fits of a hypothesis test, in the order in which they are explained.
FITS = ("free", "fixed", "background", "asimov_free", "asimov_fixed")


@dataclass(frozen=True)
class Evidence:
    """Evidence for the minima of one kind of fit, over all points.

    Attributes
    ----------
    fits, trusted
        Number of fits, and of those whose minimum is trusted.
    agreed, tried
        Least number of starts that ended in one minimum, and number of starts of that fit.
    edm
        Largest estimated distance to a trusted minimum, in 2 NLL.
    """

    fits: int
    trusted: int
    agreed: int
    tried: int
    edm: float


@dataclass(frozen=True)
class PlaneResult:
    """Contour of a plane.

    Attributes
    ----------
    name
        Name of the plane.
    contour
        Content of ``contour.json``.
    image
        Its plot; None: there is none.
    """

    name: str
    contour: Mapping[str, Any]
    image: Path | None


@dataclass(frozen=True)
class Fitted:
    """An analysis with results.

    Attributes
    ----------
    analysis
        The analysis.
    entry
        Name in the catalogue, and what is known there; None: it is not there.
    points
        Content of ``results.json``.
    limits
        Content of ``limits.json``; empty: it is not there.
    planes
        Contours.
    images
        Further plots, by their title.
    evidence
        Evidence by the kind of fit.
    doubts
        Patch, fit and reason of minima that are not trusted.
    key
        Of a record: settings and versions that all of them have.
    engines
        Number of points by the engine that fitted them.
    missing
        What was not at hand.
    """

    analysis: Analysis
    entry: tuple[str, Likelihood] | None
    points: Mapping[str, Mapping[str, Any]]
    limits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    planes: Sequence[PlaneResult] = ()
    images: Mapping[str, Path] = field(default_factory=dict)
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    doubts: Sequence[tuple[str, str, str]] = ()
    key: Mapping[str, Any] = field(default_factory=dict)
    engines: Mapping[str, int] = field(default_factory=dict)
    missing: Sequence[str] = ()

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of points by their status."""
        return Counter(str(point["status"]) for point in self.points.values())

    def excluded(self, level: float, *, expected: bool = False) -> int | None:
        """Count the excluded points, by forecasts too; None for p0 of a test of discovery.

        Parameters
        ----------
        level
            Confidence level.
        expected
            Count by the median expected CLs, as those of blinded data are in any case.
        """
        if self.key.get("settings", {}).get("test_statistic") == "q0":
            return None
        values: list[float] = [
            point["CLs_exp"][2] if expected or self.analysis.blinded else point["CLs_obs"]
            for point in (point.get("forecast") or point for point in self.points.values())
            if point["CLs_exp" if expected or self.analysis.blinded else "CLs_obs"] is not None
        ]
        return sum(value < round(1 - level, 12) for value in values)


def entry_of(analysis: Analysis) -> tuple[str, Likelihood] | None:
    """Return the name and content of an analysis in the catalogue, if it is there.

    It has the name of the analysis file and its archive, so that a pallet of one's own is not taken
    for a published one. Nor is a fit of chosen channels and bins, or of blinded data.
    """
    if analysis.choice_words:
        return None
    doi = analysis.pallet.doi if analysis.pallet is not None else None
    for name, likelihood in catalogue().items():
        if likelihood.file == analysis.name and doi is not None and doi == likelihood.doi:
            return name, likelihood
    return None


def gather(analysis: Analysis, results: Path) -> Fitted | None:
    """Read what there is of an analysis; None if it has no results.

    Parameters
    ----------
    analysis
        The analysis.
    results
        Folder of results.
    """
    folder = results / analysis.name
    try:
        points = read_json(folder / "results.json")
    except StoreError:
        return None
    missing: list[str] = []
    regions = []
    for region in analysis.used_regions:
        try:
            regions.append(RegionResults.read(folder / region / "hypotest.json", Hypotest))
        except StoreError as error:
            missing.append(f"records of the region {region}: {error.problem}")
    records = [record for region in regions for record in region.records.values()]
    fitted = [record for record in records if record["status"] not in ("failed", UNTESTED)]
    evidence, doubts = _evidence(fitted)
    planes = []
    key: Mapping[str, Any] = next(
        (record["key"] for record in records if record["status"] != UNTESTED), {}
    )
    # A contour beside p0 is of an earlier run.
    discovery = key.get("settings", {}).get("test_statistic") == "q0"
    for name in () if discovery else analysis.planes:
        suffix = analysis.plane_suffix(name)
        try:
            contour = read_json(folder / f"contour{suffix}.json")
        except StoreError:
            missing.append(f"contour of the plane {name}")
            continue
        image = folder / f"exclusion{suffix}.png"
        planes.append(PlaneResult(name, contour, image if image.exists() else None))
    try:
        limits = read_json(folder / "limits.json")
    except StoreError:
        limits = {}
        missing.append("upper limits (target `limits`)")
    by_name = folder / "limits-by-name.png"
    return Fitted(
        analysis=analysis,
        entry=entry_of(analysis),
        points=points,
        limits=limits,
        planes=planes,
        images={"Upper limits": by_name} if by_name.exists() else {},
        evidence=evidence,
        doubts=doubts,
        key=key,
        engines=Counter(str(record["engine"]) for record in fitted),
        missing=missing,
    )


def _evidence(
    records: Iterable[Mapping[str, Any]],
) -> tuple[dict[str, Evidence], list[tuple[str, str, str]]]:
    """Sum up the evidence of the fits of records, and list the minima that are not trusted."""
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    doubts = []
    for record in records:
        for kind, fit in record["fits"].items():
            by_kind.setdefault(kind, []).append(fit)
            if not fit["trusted"]:
                doubts.append((str(record["patch"]), str(kind), str(fit["reason"])))
    order = {kind: number for number, kind in enumerate(FITS)}
    evidence = {}
    for kind in sorted(by_kind, key=lambda kind: (order.get(kind, len(FITS)), kind)):
        fits = by_kind[kind]
        trusted = [fit for fit in fits if fit["trusted"]]
        least = min(trusted or fits, key=lambda fit: int(fit.get("agreed", 0)))
        distances = [float(fit["edm"]) for fit in trusted if fit["edm"] is not None]
        evidence[kind] = Evidence(
            fits=len(fits),
            trusted=len(trusted),
            agreed=int(least.get("agreed", 0)),
            tried=len(least.get("attempts", ())),
            edm=max(distances, default=0.0),
        )
    return evidence, doubts
