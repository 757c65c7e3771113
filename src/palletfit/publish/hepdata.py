"""A HEPData submission of an analysis: CLs, contours, limits, and where they come from.

The tables are made with hepdata_lib and judged by HEPData's own validator, whose schemas come with
it: nothing here uses a network or another program. The same results give the same bytes.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import re
import shutil
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from hepdata_lib import Submission, Table, Variable
from hepdata_validator.full_submission_validator import FullSubmissionValidator

from palletfit.config import Analysis, Pallet, Plane
from palletfit.core.version import __version__
from palletfit.errors import StoreError, SubmissionError
from palletfit.pallet.patches import json_digest
from palletfit.planes.contour import CURVES
from palletfit.planes.style import save_thumbnail
from palletfit.runs.results import RegionResults

#: Significant digits of CLs values, limits and vertices: more than a fit or an interpolation is
#: good for, and few enough to hide what differs between machines.
DIGITS = 6
#: Significant digits of what was not computed: all of them.
EXACT = 17
#: HEPData's way to write that there is no value.
MISSING = "-"
#: Longest name of a table.
LONGEST_NAME = 64
#: Width of a thumbnail in pixels, as HEPData's own tools make them.
THUMBNAIL = 240
#: How many points or curves a description names.
_NAMED = 10

PROVENANCE = "provenance.json"
LOCATION = "Not in the publication: fitted from the published likelihood"

#: Expected values in pyhf's order.
SIGMAS = ("-2 sigma", "-1 sigma", "median", "+1 sigma", "+2 sigma")
#: Names of the tables of contours, which also give their files' names.
CURVE_TITLES = {
    name: f"{name.partition('_')[0].capitalize()} contour"
    + re.sub(r"^.*_(minus|plus)(\d)$", r" \1 \2 sigma", name if "_" in name else "")
    for name in CURVES.values()
}
#: Keys of limits: observed, and five expected; what they are limits on, and its unit.
LIMITS = {
    ("mu_obs", "mu_exp"): ("signal strength", ""),
    ("upper_limit_obs_pb", "upper_limit_exp_pb"): ("cross section", "pb"),
}
_UNIT = re.compile(r"^(.*?)\s*\[([^\[\]]+)\]\s*$")
_HEPDATA_DOI = re.compile(r"10\.17182/hepdata\.(\d+)\.v\d+/r\d+")


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


def write(publication: Publication, folder: Path, archive: Path) -> None:
    """Write a submission and its archive, after the validator found it good.

    Parameters
    ----------
    publication
        What is submitted.
    folder
        Where its files go; an earlier submission there is replaced.
    archive
        The ``tar.gz`` for the upload.

    Raises
    ------
    SubmissionError
        HEPData would refuse it; nothing was replaced.
    StoreError
        It could not be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".hepdata-", dir=folder.parent) as name:
            _write(publication, folder, archive, Path(name).resolve())
    except OSError as error:
        raise StoreError(
            f"Cannot write the submission: {error.strerror}.",
            remedy="Free space there, or make the folder writable, and run the same command again.",
            file=error.filename or folder,
        ) from error


def _write(publication: Publication, folder: Path, archive: Path, scratch: Path) -> None:
    new, extra, packed = scratch / "new", scratch / "extra", scratch / "packed"
    extra.mkdir()
    made = _submission(publication, extra)
    # The library leaves an archive of its own in the working directory.
    with contextlib.chdir(extra):
        made.create_files(str(new), validate=False)
    check(new)
    pack(new, packed)
    if folder.exists():
        shutil.rmtree(folder)
    new.rename(folder)
    packed.replace(archive)


def check(folder: Path) -> None:
    """Judge a submission with HEPData's own validator, without network.

    Raises
    ------
    SubmissionError
        It is not valid; the error names every file and what is wrong with it.
    """
    validator = FullSubmissionValidator(autoload_remote_schemas=False)
    if validator.validate(directory=str(folder)):
        return
    messages = [
        f"    {Path(file).name}: {' '.join(message.message.split())}"
        for file, found in validator.get_messages().items()
        for message in found
    ]
    raise SubmissionError(
        "HEPData's validator refuses the submission:\n"
        + "\n".join(line.replace(f"{folder}/", "") for line in messages),
        remedy="Correct the analysis file (`hepdata`, `labels`, `planes`) or the patchset's "
        "values that are named above.",
        file=folder,
    )


def pack(folder: Path, archive: Path) -> None:
    """Pack the files of a folder; the same files give the same bytes."""
    # By default, the headers would hold names, owners and times.
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for path in sorted(folder.iterdir()):
            member = tarfile.TarInfo(path.name)
            member.size = path.stat().st_size
            with path.open("rb") as content:
                tar.addfile(member, content)


def file_sha256(path: Path) -> str:
    """Sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def provenance(publication: Publication) -> dict[str, Any]:
    """Where the numbers come from, as plain data.

    Returns
    -------
    dict
        ``pallet`` (its source, or ``combine``: the members of a combination), ``regions``
        (digests of the published files), ``fits`` (settings,
        engine and software of the records, with the number of patches each), ``contours``
        (settings, and the state of each curve), ``points`` (by patch: state, digest of the patch
        and of the record's key, and what is doubtful or wrong), ``versions``.
    """
    analysis = publication.analysis
    return {
        "analysis": analysis.name,
        "title": analysis.title,
        "reference": analysis.reference,
        **_source(analysis),
        "regions": {
            region.name: {
                **analysis.regions[region.name].model_dump(mode="json"),
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
    found: dict[str, dict[str, Any]] = {}
    for record in (record for region in regions for record in region.records.values()):
        made = {
            "settings": record["key"]["settings"],
            "engine": record["key"]["engine"],
            "software": record.get("software"),  # a failed patch has none
        }
        found.setdefault(json_digest(made), {**made, "patches": 0})["patches"] += 1
    return list(found.values())


def _source(analysis: Analysis) -> dict[str, Any]:
    """Where the likelihood comes from."""
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


def _add_links(made: Submission, pallet: Pallet) -> None:
    link = f"https://doi.org/{pallet.doi}" if pallet.doi else pallet.url
    if link is not None:
        made.add_link("The published likelihood (pallet) that was fitted", link)
    if record := _HEPDATA_DOI.fullmatch(pallet.doi or ""):
        made.add_related_recid(record[1])


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
                "patch": item["patch"],
                "status": item["status"],
                "patch_digest": keys[region][item["patch"]]["key"]["patch"],
                "key": keys[region][item["patch"]]["key"]["digest"],
                **({"problem": item["problem"]} if "problem" in item else {}),
            }
            for region, item in result["regions"].items()
        },
    }


def _submission(publication: Publication, extra: Path) -> Submission:
    """The submission in memory; files that are not tables are written into `extra`."""
    found = provenance(publication)
    path = extra / PROVENANCE
    path.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    made = Submission()
    made.comment = _comment(publication, found)
    if publication.analysis.pallet is not None:
        _add_links(made, publication.analysis.pallet)
    made.add_additional_resource(
        "Provenance in JSON: digests of the pallet's files and of every patch, fit settings, "
        "versions, the state of every point and curve",
        str(path),
        copy_file=True,
    )
    tables = [_points_table(publication)]
    if len(publication.regions) > 1:
        tables.append(_regions_table(publication))
    for plane in publication.contours:
        drawn = _contour_tables(publication, plane)
        _add_image(publication, plane, (drawn or tables)[0], extra)
        tables += drawn
    if publication.limits is not None:
        tables.append(_limits_table(publication, publication.limits))
    for table in tables:
        made.add_table(table)
    return made


def _comment(publication: Publication, found: Mapping[str, Any]) -> str:
    analysis = publication.analysis
    about = analysis.hepdata.comment
    if about is None:
        about = ". ".join(filter(None, [analysis.title, analysis.reference])) + "."
    fit = found["fits"][0]
    software = {
        f"{name} {version}"
        for item in found["fits"]
        for name, version in (item["software"] or {}).items()
    }
    absent = [
        f"{CURVE_TITLES[name]}{publication.plane_names[plane]}: {state}"
        for plane, contour in found["contours"].items()
        for name, state in contour["curves"].items()
        if state != "contour"
    ]
    kind = "published"
    if analysis.pallet is None:
        kind = "combined"
    elif analysis.pallet.builtin:
        kind = "synthetic"
    fitted = (
        f"Fitted from the {kind} likelihood with palletfit {__version__} "
        f"(engine {fit['engine']}; {', '.join(sorted(software))}). Asymptotic formulae, test "
        f"statistic {fit['settings']['test_statistic']}, tested signal strength "
        f"{fit['settings']['mu']:g}."
    )
    sentences = [
        about,
        fitted,
        _states(publication.results),
        f"Contours that do not exist: {'; '.join(absent)}." if absent else "",
        f"{PROVENANCE} holds the digests of the fitted files and all settings.",
    ]
    return _text(" ".join(filter(None, sentences)))


def _states(points: Mapping[str, Mapping[str, Any]]) -> str:
    """One sentence about suspect and failed points, with the first of their names."""
    counts = Counter(point["status"] for point in points.values())
    words = f"{len(points)} signal points, {counts['suspect']} suspect, {counts['failed']} failed"
    doubtful = [name for name, point in points.items() if point["status"] != "ok"]
    if not doubtful:
        return f"{words}."
    more = f" and {len(doubtful) - _NAMED} more" if len(doubtful) > _NAMED else ""
    return f"{words} ({', '.join(doubtful[:_NAMED])}{more})."


def _table(publication: Publication, name: str, description: str) -> Table:
    said = publication.analysis.hepdata
    table = Table(name)
    table.description = _text(description)
    table.location = _text(said.location or LOCATION)
    words = said.keywords.model_dump(mode="json")
    table.keywords = {
        name: [_text(value) if isinstance(value, str) else value for value in values]
        for name, values in words.items()
        if values
    }
    return table


def _points_table(publication: Publication) -> Table:
    points, quantity = publication.results, publication.quantity
    table = _table(
        publication,
        quantity,
        f"Observed and expected {quantity} of every signal point at the tested signal strength; "
        "expected ones for the median and the standard deviations of the background-only "
        f"hypothesis. {_states(points)} A suspect point has a fit whose minimum is not trusted, a "
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


def _regions_table(publication: Publication) -> Table:
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


def _limits_table(publication: Publication, limits: Mapping[str, Mapping[str, Any]]) -> Table:
    table = _table(
        publication,
        "Upper limits",
        "Observed and expected upper limits of every signal point; expected ones for the median "
        f"and the standard deviations of the background-only hypothesis. {_states(limits)} Without "
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


def _contour_tables(publication: Publication, plane: str) -> list[Table]:
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
    variable = Variable(_text(name), is_independent=independent, is_binned=False, units=_text(unit))
    variable.digits = digits
    variable.values = [
        MISSING if value is None else _text(value) if isinstance(value, str) else value
        for value in values
    ]
    return variable


def _five(values: Sequence[float | None] | None) -> Sequence[float | None]:
    return [None] * len(SIGMAS) if values is None else values


def _text(words: str) -> str:
    """Make a text one line of characters that every reader of YAML accepts."""
    line = " ".join(words.split())
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)


def _add_image(publication: Publication, plane: str, table: Table, extra: Path) -> None:
    """Add a plane's plot with its thumbnail, by the names that HEPData looks for.

    hepdata_lib would need ImageMagick for the thumbnail.
    """
    image = publication.images.get(plane)
    if image is None:
        return
    small = extra / f"thumb_{image.name}"
    save_thumbnail(image, small, THUMBNAIL)
    for path, words in ((image, "Image file"), (small, "Thumbnail image file")):
        table.add_additional_resource(words, str(path.resolve()), copy_file=True)
