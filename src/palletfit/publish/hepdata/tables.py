"""Tables of a submission, as hepdata_lib writes them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hepdata_lib import Table, Variable

from palletfit.config import Analysis, Plane
from palletfit.publish.hepdata.publication import CURVE_TITLES, Publication

#: Significant digits of CLs values, limits and vertices: more than a fit or an interpolation is
#: good for, and few enough to hide what differs between machines.
DIGITS = 6
#: Significant digits of what was not computed: all of them.
EXACT = 17
#: HEPData's way to write that there is no value.
MISSING = "-"
#: How many points or curves a description names.
_NAMED = 10
LOCATION = "Not in the publication: fitted from the published likelihood"
#: Expected values in pyhf's order.
SIGMAS = ("-2 sigma", "-1 sigma", "median", "+1 sigma", "+2 sigma")
#: Keys of limits: observed, and five expected; what they are limits on, and its unit.
LIMITS = {
    ("mu_obs", "mu_exp"): ("signal strength", ""),
    ("upper_limit_obs_pb", "upper_limit_exp_pb"): ("cross section", "pb"),
}
_UNIT = re.compile(r"^(.*?)\s*\[([^\[\]]+)\]\s*$")


def points_table(publication: Publication) -> Table:
    """Make the table of all signal points."""
    points, quantity = publication.results, publication.quantity
    table = _table(
        publication,
        quantity,
        f"Observed and expected {quantity} of every signal point at the tested signal strength; "
        "expected ones for the median and the standard deviations of the background-only "
        f"hypothesis. {tally(points)} A suspect point has a fit whose minimum is not trusted, a "
        f"failed one no result ({MISSING}).{_labels_meaning(publication.analysis)}",
    )
    _add_labels(table, publication.analysis, points)
    pairs = [(point["CLs_obs"], point["CLs_exp"]) for point in points.values()]
    _add_six(table, quantity, pairs, publication)
    if len(publication.regions) > 1:
        _add_words(table, "Region", (point["region"] for point in points.values()))
    _add_words(table, "Status", (point["status"] for point in points.values()))
    taken = (point["regions"][point["region"]]["patch"] for point in points.values())
    _add_words(table, "Patch", taken)
    return table


def regions_table(publication: Publication) -> Table:
    """Make the table of the best region of every signal point."""
    points, quantity = publication.results, publication.quantity
    table = _table(
        publication,
        "Best region",
        f"For every signal point the region with the best (lowest) expected {quantity}, from which "
        f"the other tables take it, and the median expected {quantity} of every region. Without "
        f"value ({MISSING}): the region has no such point, or its fit failed.",
    )
    _add_labels(table, publication.analysis, points)
    _add_words(table, "Best region", (point["region"] for point in points.values()))
    for region in publication.regions:
        values = [
            _five(point["regions"].get(region.name, {}).get("CLs_exp"))[2]
            for point in points.values()
        ]
        _add_numbers(table, f"Expected {quantity}, {region.name}", values, publication)
    return table


def limits_table(publication: Publication, limits: Mapping[str, Mapping[str, Any]]) -> Table:
    """Make the table of upper limits."""
    table = _table(
        publication,
        "Upper limits",
        "Observed and expected upper limits of every signal point; expected ones for the median "
        f"and the standard deviations of the background-only hypothesis. {tally(limits)} Without "
        f"value ({MISSING}): there is no such limit.{_labels_meaning(publication.analysis)}",
    )
    _add_labels(table, publication.analysis, limits)
    for (observed, expected), (what, unit) in LIMITS.items():
        if not any(observed in limit for limit in limits.values()):
            continue
        pairs = [(limit.get(observed), limit.get(expected)) for limit in limits.values()]
        _add_six(table, f"limit on {what}", pairs, publication, unit)
    _add_words(table, "Status", (limit["status"] for limit in limits.values()))
    return table


def contour_tables(publication: Publication, plane: str) -> list[Table]:
    """One table for each curve that exists."""
    contour, axes = publication.contours[plane], publication.analysis.planes[plane]
    tables = []
    for name, curve in contour["curves"].items():
        if curve["state"] != "contour":
            continue
        table = _table(
            publication,
            CURVE_TITLES[name] + publication.plane_names[plane],
            f"Vertices of the {_curve_words(name)} exclusion contour at "
            f"{100 * contour['confidence_level']:g}% CL in the plane {_plane_words(axes)}. "
            f"{_interpolated(contour)} Rows are in order along each connected piece; a closed "
            "piece ends with its first vertex.",
        )
        lines = curve["lines"]
        x, y = zip(*(vertex for line in lines for vertex in line["vertices"]), strict=True)
        (x_title, x_unit), (y_title, y_unit) = map(_title_and_unit, (axes.x_title, axes.y_title))
        table.add_variable(_variable(x_title, x, unit=x_unit, independent=True))
        table.add_variable(_variable(y_title, y, unit=y_unit))
        pieces = [number for number, line in enumerate(lines, 1) for _ in line["vertices"]]
        table.add_variable(_variable("Piece", pieces, digits=EXACT))
        tables.append(table)
    return tables


def _table(publication: Publication, name: str, description: str) -> Table:
    said = publication.analysis.hepdata
    table = Table(name)
    table.description = printable(description)
    table.location = printable(said.location or LOCATION)
    words = said.keywords.model_dump(mode="json")
    table.keywords = {
        name: [printable(value) if isinstance(value, str) else value for value in values]
        for name, values in words.items()
        if values
    }
    return table


def tally(points: Mapping[str, Mapping[str, Any]]) -> str:
    """One sentence about suspect and failed points, with the first of their names."""
    counts = Counter(point["status"] for point in points.values())
    words = f"{len(points)} signal points, {counts['suspect']} suspect, {counts['failed']} failed"
    doubtful = [name for name, point in points.items() if point["status"] != "ok"]
    if not doubtful:
        return f"{words}."
    more = f" and {len(doubtful) - _NAMED} more" if len(doubtful) > _NAMED else ""
    return f"{words} ({', '.join(doubtful[:_NAMED])}{more})."


def _curve_words(name: str) -> str:
    kind, _, band = name.partition("_")
    if not band:
        return kind
    sign, width = ("smaller", band[-1]) if band.startswith("minus") else ("larger", band[-1])
    return f"{kind} ({sign} CLs, by {width} standard deviations of the background-only hypothesis)"


def _plane_words(plane: Plane) -> str:
    words = f"x = {plane.x}, y = {plane.y}"
    return words if plane.select is None else f"{words} where {plane.select}"


def _interpolated(contour: Mapping[str, Any]) -> str:
    failed, near = contour["failed"], contour["failed_near_contour"]
    words = (
        f"Interpolated ({contour['interpolation']}) in the significance of "
        f"{len(contour['points']) - len(failed)} signal points"
    )
    if not failed:
        return f"{words}."
    return (
        f"{words}; {len(failed)} failed ones are left out, {len(near)} of them next to a contour."
    )


def _add_labels(table: Table, analysis: Analysis, points: Mapping[str, Mapping[str, Any]]) -> None:
    """Add the labels as independent variables."""
    headers = _label_headers(analysis)
    for index, (title, unit) in enumerate(headers.values()):
        values = [point["mass_hypotheses"][index] for point in points.values()]
        table.add_variable(_variable(title, values, unit=unit, digits=EXACT, independent=True))


def _label_headers(analysis: Analysis) -> dict[str, tuple[str, str]]:
    """Name and unit of each label: those of the axis that it is, if it is one."""
    found: dict[str, tuple[str, str]] = {}
    for label in analysis.labels:
        axes = (
            _title_and_unit(title)
            for plane in analysis.planes.values()
            for expression, title in ((plane.x, plane.x_title), (plane.y, plane.y_title))
            if expression.strip() == label
        )
        title, unit = next(axes, (label, ""))
        if title in (taken for taken, _ in found.values()):
            title = label
        found[label] = title, analysis.hepdata.units.get(label, unit)
    return found


def _labels_meaning(analysis: Analysis) -> str:
    headers = _label_headers(analysis)
    words = [f"{title} is {label}" for label, (title, _) in headers.items() if title != label]
    return f" In the patchset {', '.join(words)}." if words else ""


def _title_and_unit(title: str) -> tuple[str, str]:
    found = _UNIT.match(title)
    return (found[1], found[2]) if found else (title, "")


def _add_six(
    table: Table,
    what: str,
    pairs: Sequence[tuple[float | None, Sequence[float | None] | None]],
    publication: Publication,
    unit: str = "",
) -> None:
    """Add the observed value of every point, and its five expected ones."""
    _add_numbers(table, f"Observed {what}", [observed for observed, _ in pairs], publication, unit)
    for index, sigma in enumerate(SIGMAS):
        values = [_five(expected)[index] for _, expected in pairs]
        _add_numbers(table, f"Expected {what} ({sigma})", values, publication, unit)


def _add_numbers(
    table: Table,
    name: str,
    values: Iterable[float | None],
    publication: Publication,
    unit: str = "",
) -> None:
    variable = _variable(name, values, unit=unit)
    for energy in publication.analysis.hepdata.keywords.cmenergies:
        variable.add_qualifier("SQRT(S)", energy, "GeV")
    table.add_variable(variable)


def _add_words(table: Table, name: str, values: Iterable[str]) -> None:
    table.add_variable(_variable(name, values))


def _variable(
    name: str,
    values: Iterable[float | str | None],
    *,
    unit: str = "",
    digits: int = DIGITS,
    independent: bool = False,
) -> Variable:
    variable = Variable(
        printable(name), is_independent=independent, is_binned=False, units=printable(unit)
    )
    variable.digits = digits
    variable.values = [
        MISSING if value is None else printable(value) if isinstance(value, str) else value
        for value in values
    ]
    return variable


def _five(values: Sequence[float | None] | None) -> Sequence[float | None]:
    return [None] * len(SIGMAS) if values is None else values


def printable(words: str) -> str:
    """Make a text one line of characters that every reader of YAML accepts."""
    line = " ".join(words.split())
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)
