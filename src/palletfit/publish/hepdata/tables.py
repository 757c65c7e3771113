"""Tables of a submission, as hepdata_lib writes them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hepdata_lib import Table, Variable

from palletfit.config import Analysis, Plane
from palletfit.planes.contour import UNTESTED
from palletfit.publish.hepdata.publication import CURVE_TITLES, Publication

#: Significant digits of CLs values, limits and vertices: more than the precision of a fit or an
#: interpolation, and few enough to hide differences between machines.
DIGITS = 6
#: Significant digits of numbers that were not computed: all of them.
EXACT = 17
#: Text of a missing value in HEPData.
MISSING = "-"
#: Largest number of points or curves that a description names.
_NAMED = 10
LOCATION = "Not in the publication: fitted from the published likelihood"
#: Expected values in pyhf's order.
SIGMAS = ("-2 sigma", "-1 sigma", "median", "+1 sigma", "+2 sigma")
#: Keys of observed and expected limits: the quantity that is limited, and its unit.
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
        f"{publication.kinds} {quantity} of every signal point at the tested signal strength; "
        "expected ones for the median and the standard deviations of the background-only "
        f"hypothesis. {tally(points)} A suspect point has a fit whose minimum is not trusted, a "
        f"failed or untested one no result ({MISSING}).{_describe_labels(publication.analysis)}",
    )
    _add_labels(table, publication.analysis, points)
    pairs = [(point["CLs_obs"], point["CLs_exp"]) for point in points.values()]
    _add_six(table, quantity, pairs, publication)
    if len(publication.regions) > 1:
        _add_texts(table, "Region", (point["region"] for point in points.values()))
    _add_texts(table, "Status", (point["status"] for point in points.values()))
    patches = (point["regions"][point["region"]]["patch"] for point in points.values())
    _add_texts(table, "Patch", patches)
    return table


def regions_table(publication: Publication) -> Table:
    """Make the table of the best region of every signal point."""
    points, quantity = publication.results, publication.quantity
    table = _table(
        publication,
        "Best region",
        f"For every signal point the region with the best (lowest) expected {quantity}, from which "
        f"the other tables take it, and the median expected {quantity} of every region. Without "
        f"value ({MISSING}): the region has no such point, its fit failed, or it "
        "was not tested.",
    )
    _add_labels(table, publication.analysis, points)
    _add_texts(table, "Best region", (point["region"] for point in points.values()))
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
        f"{publication.kinds} upper limits of every signal point; expected ones for the median "
        f"and the standard deviations of the background-only hypothesis. {tally(limits)} Without "
        f"value ({MISSING}): there is no such limit.{_describe_labels(publication.analysis)}",
    )
    _add_labels(table, publication.analysis, limits)
    for (observed, expected), (quantity, unit) in LIMITS.items():
        if not any(observed in limit for limit in limits.values()):
            continue
        pairs = [(limit.get(observed), limit.get(expected)) for limit in limits.values()]
        _add_six(table, f"limit on {quantity}", pairs, publication, unit)
    _add_texts(table, "Status", (limit["status"] for limit in limits.values()))
    return table


def contour_tables(publication: Publication, plane: str) -> list[Table]:
    """Make one table for each existing curve."""
    contour, axes = publication.contours[plane], publication.analysis.planes[plane]
    tables = []
    for name, curve in contour["curves"].items():
        if curve["state"] != "contour":
            continue
        table = _table(
            publication,
            CURVE_TITLES[name] + publication.plane_names[plane],
            f"Vertices of the {_describe_curve(name)} exclusion contour at "
            f"{100 * contour['confidence_level']:g}% CL in the plane {_describe_plane(axes)}. "
            f"{_describe_interpolation(contour)} Rows are in order along each connected piece; a "
            "closed piece ends with its first vertex.",
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
    settings = publication.analysis.hepdata
    table = Table(name)
    table.description = printable(" ".join([description, *publication.choices]))
    table.location = printable(settings.location or LOCATION)
    keywords = settings.keywords.model_dump(mode="json")
    table.keywords = {
        name: [printable(value) if isinstance(value, str) else value for value in values]
        for name, values in keywords.items()
        if values
    }
    return table


def tally(points: Mapping[str, Mapping[str, Any]]) -> str:
    """Write a sentence about suspect and failed points, with the first of their names."""
    counts = Counter(point["status"] for point in points.values())
    summary = f"{len(points)} signal points, {counts['suspect']} suspect, {counts['failed']} failed"
    if counts[UNTESTED]:
        summary += f", {counts[UNTESTED]} not tested, which the contours do not need"
    not_ok = [name for name, point in points.items() if point["status"] in ("suspect", "failed")]
    if not not_ok:
        return f"{summary}."
    remainder = f" and {len(not_ok) - _NAMED} more" if len(not_ok) > _NAMED else ""
    return f"{summary} ({', '.join(not_ok[:_NAMED])}{remainder})."


def _describe_curve(name: str) -> str:
    kind, _, band = name.partition("_")
    if not band:
        return kind
    sign, width = ("smaller", band[-1]) if band.startswith("minus") else ("larger", band[-1])
    return f"{kind} ({sign} CLs, by {width} standard deviations of the background-only hypothesis)"


def _describe_plane(plane: Plane) -> str:
    description = f"x = {plane.x}, y = {plane.y}"
    return description if plane.select is None else f"{description} where {plane.select}"


def _describe_interpolation(contour: Mapping[str, Any]) -> str:
    failed, near = contour["failed"], contour["failed_near_contour"]
    description = (
        f"Interpolated ({contour['interpolation']}) in the significance of "
        f"{len(contour['points']) - len(failed)} signal points"
    )
    untested = sum(point["status"] == UNTESTED for point in contour["points"])
    if untested:
        description += f", of which {untested} are forecast and not tested"
    if not failed:
        return f"{description}."
    return (
        f"{description}; {len(failed)} failed ones are left out, {len(near)} of them next to a "
        "contour."
    )


def _add_labels(table: Table, analysis: Analysis, points: Mapping[str, Mapping[str, Any]]) -> None:
    """Add the labels as independent variables."""
    headers = _label_headers(analysis)
    for index, (title, unit) in enumerate(headers.values()):
        values = [point["mass_hypotheses"][index] for point in points.values()]
        table.add_variable(_variable(title, values, unit=unit, digits=EXACT, independent=True))


def _label_headers(analysis: Analysis) -> dict[str, tuple[str, str]]:
    """Choose name and unit of each label: those of the axis with this label, if there is one."""
    headers: dict[str, tuple[str, str]] = {}
    for label in analysis.labels:
        axes = (
            _title_and_unit(title)
            for plane in analysis.planes.values()
            for expression, title in ((plane.x, plane.x_title), (plane.y, plane.y_title))
            if expression.strip() == label
        )
        title, unit = next(axes, (label, ""))
        if title in (other for other, _ in headers.values()):
            title = label
        headers[label] = title, analysis.hepdata.units.get(label, unit)
    return headers


def _describe_labels(analysis: Analysis) -> str:
    headers = _label_headers(analysis)
    meanings = [f"{title} is {label}" for label, (title, _) in headers.items() if title != label]
    return f" In the patchset {', '.join(meanings)}." if meanings else ""


def _title_and_unit(title: str) -> tuple[str, str]:
    match = _UNIT.match(title)
    return (match[1], match[2]) if match else (title, "")


def _add_six(
    table: Table,
    quantity: str,
    pairs: Sequence[tuple[float | None, Sequence[float | None] | None]],
    publication: Publication,
    unit: str = "",
) -> None:
    """Add the observed value of every point, unless blinded, and its five expected values."""
    if not publication.analysis.blinded:
        _add_numbers(
            table, f"Observed {quantity}", [observed for observed, _ in pairs], publication, unit
        )
    for index, sigma in enumerate(SIGMAS):
        values = [_five(expected)[index] for _, expected in pairs]
        _add_numbers(table, f"Expected {quantity} ({sigma})", values, publication, unit)


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


def _add_texts(table: Table, name: str, values: Iterable[str]) -> None:
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


def printable(text: str) -> str:
    """Convert a text to one line of characters that every reader of YAML accepts."""
    line = " ".join(text.split())
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)
