"""Proposals of planes: axes and conditions for labels of any number."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Points that a plane needs, and planes that are proposed at most.
_FEWEST_POINTS, _MOST_PLANES = 4, 6
#: Labels that are looked at.
_MOST_LABELS = 30
#: Conditions of several labels that are tried.
_MOST_COMBINATIONS = 3000

#: Particles of labels that have one meaning only: `mst` may be a stop or a stau.
_PARTICLES = {
    "n1": r"\tilde{\chi}^{0}_{1}",
    "neutralino1": r"\tilde{\chi}^{0}_{1}",
    "n2": r"\tilde{\chi}^{0}_{2}",
    "neutralino2": r"\tilde{\chi}^{0}_{2}",
    "c1": r"\tilde{\chi}^{\pm}_{1}",
    "chargino1": r"\tilde{\chi}^{\pm}_{1}",
    "g": r"\tilde{g}",
    "go": r"\tilde{g}",
    "gluino": r"\tilde{g}",
    "sb": r"\tilde{b}_{1}",
    "sbottom": r"\tilde{b}_{1}",
    "stop": r"\tilde{t}_{1}",
    "stau": r"\tilde{\tau}",
}

Values = Sequence[Sequence[float | str]]


@dataclass(frozen=True)
class ProposedPlane:
    """Axes of a plane, and its points.

    Attributes
    ----------
    name
        Its name in the analysis file.
    x, y
        Labels.
    select
        Condition on the points, if not all of them are in the plane.
    points
        Number of points.
    below
        True if no point is above the diagonal.
    """

    name: str
    x: str
    y: str
    select: str | None
    points: int
    below: bool


def propose(labels: Sequence[str], values: Values) -> tuple[list[ProposedPlane], list[str]]:
    """Propose planes for signal points.

    Labels that are constant, or at a constant distance to another one, are no axes. Of more than
    two others, conditions choose planes until all points are in one.

    Parameters
    ----------
    labels
        Names of the values.
    values
        Of each point.

    Returns
    -------
    tuple
        The planes, and remarks.
    """
    if len(labels) > _MOST_LABELS:
        return [], [f"there are {len(labels)} labels: write `planes` by hand"]
    columns = {
        label: np.array([row[number] for row in values], dtype=np.float64)
        for number, label in enumerate(labels)
        if all(isinstance(row[number], (int, float)) for row in values)
    }
    texts = {
        label: [str(row[number]) for row in values]
        for number, label in enumerate(labels)
        if label not in columns
    }
    axes, remarks = _independent(columns)
    if len(axes) < 2:
        return [], [*remarks, _why_no_plane(axes, texts)]
    if len(axes) == 2:
        plane = _plane(axes, columns, np.ones(len(values), dtype=bool), "", "")
        if plane is not None:
            return [plane], remarks
    planes = _covering(axes, columns, texts, len(values))
    covered = sum(plane.points for plane in planes)
    if not planes:
        remarks.append("no condition gives a plane of several points: write `planes` by hand")
    elif covered < len(values):
        remarks.append(
            f"the proposed planes have {covered} of {len(values)} points: write others by hand"
        )
    return planes, remarks


def _why_no_plane(axes: Sequence[str], texts: Mapping[str, object]) -> str:
    if axes:
        return f"points differ in {axes[0]} only, so that there is no plane; draw a slice"
    return "points have no numbers that vary, so that there is no plane" + (
        f"; they differ in {', '.join(texts)}" if texts else ""
    )


def _independent(columns: Mapping[str, NDArray[np.float64]]) -> tuple[list[str], list[str]]:
    """List labels that vary, each at varying distances to those before it; and say the others."""
    axes: list[str] = []
    remarks: list[str] = []
    for label, column in columns.items():
        if np.ptp(column) == 0:
            remarks.append(f"{label} is {column[0]:g} at all points")
            continue
        bound = next((other for other in axes if np.ptp(column - columns[other]) == 0), None)
        if bound is None:
            axes.append(label)
        else:
            distance = column[0] - columns[bound][0]
            remarks.append(f"{label} is {bound}" + (f" {distance:+g}" if distance else ""))
    free = _free(axes, columns)
    bound_axes = [label for label in axes if label not in free]
    if bound_axes:
        remarks.append(f"{', '.join(bound_axes)}: a linear function of {', '.join(free)}")
    return free, remarks


def _free(axes: Sequence[str], columns: Mapping[str, NDArray[np.float64]]) -> list[str]:
    """Leave out labels that are linear functions of others, between the heaviest and lightest."""
    if len(axes) < 3:
        return list(axes)
    by_mean = sorted(axes, key=lambda label: -columns[label].mean())
    free: list[str] = []
    for label in [by_mean[0], by_mean[-1], *by_mean[1:-1]]:
        centred = [columns[name] - columns[name].mean() for name in [*free, label]]
        scaled = np.array([column / np.abs(column).max() for column in centred])
        if np.linalg.matrix_rank(scaled, tol=1e-6) == len(scaled):
            free.append(label)
    return [label for label in axes if label in free]


def _plane(
    axes: Sequence[str],
    columns: Mapping[str, NDArray[np.float64]],
    chosen: NDArray[np.bool_],
    select: str,
    name: str,
) -> ProposedPlane | None:
    """Make a plane of two labels, the heavier one on x; None if its points are on a line."""
    first, second = axes
    if columns[second][chosen].mean() > columns[first][chosen].mean():
        first, second = second, first
    x, y = columns[first][chosen], columns[second][chosen]
    coordinates = np.unique(np.column_stack([x, y]), axis=0)
    if len(coordinates) < len(x) or np.linalg.matrix_rank(coordinates - coordinates[0]) < 2:
        return None
    return ProposedPlane(
        name=name or f"{_word(first)}-{_word(second)}",
        x=quoted(first),
        y=quoted(second),
        select=select or None,
        points=len(x),
        below=bool(np.all(y <= x)),
    )


def _covering(
    axes: Sequence[str],
    columns: Mapping[str, NDArray[np.float64]],
    texts: Mapping[str, Sequence[str]],
    count: int,
) -> list[ProposedPlane]:
    """Choose planes, the largest first, until all points are in one."""
    candidates: list[tuple[ProposedPlane, NDArray[np.bool_]]] = []
    conditions = _conditions(axes, columns, texts)
    needed = max(1, len(axes) - 2)
    while math.comb(len(conditions), needed) > _MOST_COMBINATIONS:
        # Those with the most points stay, in their order.
        fewest = min(conditions, key=lambda condition: int(condition[2].sum()))
        conditions = [entry for entry in conditions if entry is not fewest]
    for combination in itertools.combinations(conditions, needed):
        chosen = np.logical_and.reduce([condition[2] for condition in combination])
        if chosen.sum() < _FEWEST_POINTS:
            continue
        select = " and ".join(condition[0] for condition in combination)
        name = "_".join(condition[1] for condition in combination)
        free, _ = _independent({label: columns[label][chosen] for label in axes})
        if len(free) == 2:
            plane = _plane(free, columns, chosen, select, name)
            if plane is not None:
                candidates.append((plane, chosen))
    planes: list[ProposedPlane] = []
    left = np.ones(count, dtype=bool)
    while left.any() and candidates and len(planes) < _MOST_PLANES:
        # The first of equals: a fixed value is simpler than a fixed distance.
        plane, chosen = max(candidates, key=lambda entry: int((entry[1] & left).sum()))
        if (chosen & left).sum() < _FEWEST_POINTS:
            break
        planes.append(plane)
        left &= ~chosen
    return planes


def _conditions(
    axes: Sequence[str],
    columns: Mapping[str, NDArray[np.float64]],
    texts: Mapping[str, Sequence[str]],
) -> list[tuple[str, str, NDArray[np.bool_]]]:
    """List conditions with several points: text, name, and the points that fulfil it."""
    # A small grid has each label fixed many times: the lightest one is the likeliest.
    conditions = [
        (
            f"{quoted(label)} == {_number(value)}",
            f"{_word(label)}-{value:g}",
            columns[label] == value,
        )
        for label in sorted(axes, key=lambda axis: columns[axis].mean())
        for value in _frequent(columns[label])
    ]
    for first, second in itertools.combinations(axes, 2):
        mean = (columns[first] - columns[second]).mean()
        heavy, light = (first, second) if mean >= 0 else (second, first)
        difference = columns[heavy] - columns[light]
        conditions += [
            (
                f"{quoted(heavy)} - {quoted(light)} == {_number(value)}",
                f"{_word(heavy)}-{_word(light)}-{value:g}",
                difference == value,
            )
            for value in _frequent(difference)
            if value > 0
        ]
    for label, column in texts.items():
        for text in dict.fromkeys(column):
            if "'" not in text and "\\" not in text:
                chosen = np.array([entry == text for entry in column])
                conditions.append((f"{quoted(label)} == '{text}'", _word(text), chosen))
    return conditions


def _frequent(column: NDArray[np.float64]) -> list[float]:
    """List the values that several points have, the most frequent ones first; twenty at most."""
    values, counts = np.unique(column, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [float(values[index]) for index in order if counts[index] >= _FEWEST_POINTS][:20]


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def quoted(label: str) -> str:
    """Write a label in an expression: in backticks if it is no plain name."""
    return label if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", label) else f"`{label}`"


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+-]+", "", text).strip("-_.+") or "plane"


def axis_title(label: str) -> str:
    """Guess the title of an axis from its label: masses are in GeV."""
    label = label.strip("`")
    mass = re.fullmatch(r"m_?([A-Za-z].*)", label)
    if mass is None:
        return label if not re.fullmatch(r"m_?[0-9]*", label) else f"{label} [GeV]"
    particle = _PARTICLES.get(mass[1].lower())
    return f"{label} [GeV]" if particle is None else f"$m({particle})$ [GeV]"
