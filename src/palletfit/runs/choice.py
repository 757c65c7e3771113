"""The choice of patches that a product is made for.

All functions take the content of ``results.json`` or ``limits.json``, and give the patches by
region: of each signal point the patch of the region that the point is taken from.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from palletfit.errors import ConfigError

Results = Mapping[str, Mapping[str, Any]]


def choose(
    patterns: Sequence[str],
    results: Results,
    confidence_level: float,
    *,
    analysis: str,
    section: str,
    all_patterns: bool = True,
) -> dict[str, list[str]]:
    """Choose patches that match a pattern; without patterns the one that is nearest to exclusion.

    Parameters
    ----------
    patterns, results, confidence_level
        See :func:`matching` and :func:`near_threshold`.
    analysis, section, all_patterns
        See :func:`matching`.

    Raises
    ------
    ConfigError
        A pattern matches no patch; or there is none, and no point has an expected CLs.
    """
    if patterns:
        return matching(
            patterns, results, analysis=analysis, section=section, all_patterns=all_patterns
        )
    chosen = near_threshold(results, confidence_level)
    if not chosen:
        raise ConfigError(
            f"No patch of {analysis} has an expected CLs, so that none is near to exclusion.",
            remedy=f"Name patches under {section}.patches, or see in the records why fits failed.",
        )
    return chosen


def near_threshold(results: Results, confidence_level: float) -> dict[str, list[str]]:
    """Return the patch whose median expected CLs is nearest to one minus the confidence level.

    Near is meant in the significance Z = Phi^-1(1 - CLs), in which contours are interpolated, too.

    Parameters
    ----------
    results
        Content of ``results.json``; points without values are ignored.
    confidence_level
        Such as 0.95.

    Returns
    -------
    dict
        One region with one patch; nothing if no point has values.
    """
    from scipy.special import ndtri

    threshold = ndtri(1 - confidence_level)
    distances = {
        name: float(abs(ndtri(entry["CLs_exp"][2]) - threshold))
        for name, entry in results.items()
        if entry["CLs_exp"] is not None
    }
    return by_region([min(distances, key=distances.__getitem__)] if distances else [], results)


def matching(
    patterns: Sequence[str],
    results: Results,
    *,
    analysis: str,
    section: str,
    all_patterns: bool = True,
) -> dict[str, list[str]]:
    """Return patches whose name matches a shell pattern, in the order of the points.

    Parameters
    ----------
    patterns
        Shell patterns; a name itself is meant even with ``[`` in it.
    results
        Content of ``results.json`` or ``limits.json``.
    analysis, section
        Name of the analysis, and of the section of the configuration whose ``patches`` the
        patterns are, for errors.
    all_patterns
        Whether each pattern has to match a patch. Else one is enough: a configuration for several
        analyses may name patches of each.

    Raises
    ------
    ConfigError
        A pattern (if not every one has to match: all of them) matches no patch.
    """
    lost = [pattern for pattern in patterns if not any(_means(pattern, name) for name in results)]
    if lost and (all_patterns or len(lost) == len(patterns)):
        raise ConfigError(
            f"No patch of {analysis} matches {', '.join(map(repr, lost))}.",
            remedy=f"Correct {section}.patches; the first patch is {next(iter(results), None)!r}.",
        )
    return by_region(
        (name for name in results if any(_means(pattern, name) for pattern in patterns)), results
    )


def _means(pattern: str, name: str) -> bool:
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


def by_region(names: Iterable[str], results: Results) -> dict[str, list[str]]:
    """Return patches of signal points, by the region that each point is taken from."""
    chosen: dict[str, list[str]] = {}
    for name in names:
        entry = results[name]
        region = entry["region"]
        # Patches of one point may be called differently in each region.
        chosen.setdefault(region, []).append(entry["regions"][region]["patch"])
    return chosen
