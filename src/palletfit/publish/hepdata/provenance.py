"""Provenance of a submission: digests, settings, and the state of every point."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from palletfit.config import OF_CHOICE, Analysis
from palletfit.core.version import __version__
from palletfit.pallet.patches import json_digest
from palletfit.planes.contour import UNTESTED
from palletfit.publish.hepdata.publication import Publication
from palletfit.runs.results import RegionResults


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def provenance(publication: Publication) -> dict[str, Any]:
    """Collect the provenance of the numbers as plain data.

    Returns
    -------
    dict
        ``pallet`` (its source, or ``combine``: the members of a combination), ``regions``
        (digests of the published files), ``fits`` (settings, engine and software of the records,
        each with the number of patches), ``contours`` (settings, and the state of each curve),
        ``points`` (by patch: state, digest of the patch and of the record's key, and doubts or
        problems), ``versions``.
    """
    analysis = publication.analysis
    return {
        "analysis": analysis.name,
        "title": analysis.title,
        "reference": analysis.reference,
        **_source(analysis),
        "regions": {
            region.name: {
                **analysis.regions[region.name].model_dump(mode="json", exclude={*OF_CHOICE}),
                **analysis.choice_of(region.name).as_json(),
                "sha256": dict(publication.files[region.name]),
                "workspace_digests": sorted(
                    {record["key"]["workspace"] for record in region.records.values()}
                ),
            }
            for region in publication.regions
        },
        "fits": _fits(publication.regions),
        "contours": {
            plane: {
                **analysis.planes[plane].model_dump(
                    mode="json", include={"x", "y", "select"}, exclude_none=True
                ),
                "confidence_level": contour["confidence_level"],
                "interpolation": contour["interpolation"],
                "curves": {name: curve["state"] for name, curve in contour["curves"].items()},
                "failed_near_contour": contour["failed_near_contour"],
            }
            for plane, contour in publication.contours.items()
        },
        "points": {
            name: _point(result, publication.regions)
            for name, result in publication.results.items()
        },
        "versions": {
            "palletfit": __version__,
            **{name: metadata.version(name) for name in ("hepdata-lib", "hepdata-validator")},
        },
    }


def _fits(regions: Sequence[RegionResults]) -> list[dict[str, Any]]:
    fits: dict[str, dict[str, Any]] = {}
    for record in (record for region in regions for record in region.records.values()):
        if record["status"] == UNTESTED:
            continue
        fit = {
            "settings": record["key"]["settings"],
            "engine": record["key"]["engine"],
            "software": record.get("software"),  # a failed patch has none
        }
        fits.setdefault(json_digest(fit), {**fit, "patches": 0})["patches"] += 1
    return list(fits.values())


def _source(analysis: Analysis) -> dict[str, Any]:
    """Describe the source of the likelihood."""
    if analysis.pallet is None:
        assert analysis.combine is not None  # noqa: S101  one of both, says the configuration
        members = analysis.combine.model_dump(mode="json", exclude_none=True)
        for name, member in analysis.combine.members.items():
            # A file's path is that of one machine.
            members["members"][name]["analysis"] = Path(str(member.analysis)).stem
        return {"combine": members}
    pallet = analysis.pallet
    source = pallet.model_dump(mode="json", exclude_none=True, exclude={"archive", "path"})
    if pallet.path is not None:
        source["file"] = pallet.path.name
    return {"pallet": source}


def _point(result: Mapping[str, Any], regions: Sequence[RegionResults]) -> dict[str, Any]:
    keys = {region.name: region.records for region in regions}
    notes = {name: result[name] for name in ("problem", "doubts", "remarks") if result.get(name)}
    return {
        "values": result["mass_hypotheses"],
        "status": result["status"],
        "region": result["region"],
        **notes,
        "regions": {
            region: {
                "patch": test["patch"],
                "status": test["status"],
                "patch_digest": keys[region][test["patch"]]["key"]["patch"],
                # A point that was not tested has no record.
                "key": keys[region][test["patch"]]["key"].get("digest"),
                **({"forecast": test["forecast"]} if "forecast" in test else {}),
                **({"problem": test["problem"]} if "problem" in test else {}),
            }
            for region, test in result["regions"].items()
        },
    }
