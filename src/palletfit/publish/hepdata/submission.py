"""Write, check and pack a submission.

The same results give the same bytes.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hepdata_lib import Submission, Table
from hepdata_validator.full_submission_validator import FullSubmissionValidator

from palletfit.config import Pallet
from palletfit.core.version import __version__
from palletfit.errors import StoreError, SubmissionError
from palletfit.planes.style import save_thumbnail
from palletfit.publish.hepdata.provenance import provenance
from palletfit.publish.hepdata.publication import CURVE_TITLES, Publication
from palletfit.publish.hepdata.tables import (
    contour_tables,
    limits_table,
    points_table,
    printable,
    regions_table,
    tally,
)

#: Width of a thumbnail in pixels, as HEPData's own tools make them.
THUMBNAIL = 240
PROVENANCE = "provenance.json"
_HEPDATA_DOI = re.compile(r"10\.17182/hepdata\.(\d+)\.v\d+/r\d+")


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
    tables = [points_table(publication)]
    if len(publication.regions) > 1:
        tables.append(regions_table(publication))
    for plane in publication.contours:
        drawn = contour_tables(publication, plane)
        _add_image(publication, plane, (drawn or tables)[0], extra)
        tables += drawn
    if publication.limits is not None:
        tables.append(limits_table(publication, publication.limits))
    for table in tables:
        made.add_table(table)
    return made


def _add_links(made: Submission, pallet: Pallet) -> None:
    link = f"https://doi.org/{pallet.doi}" if pallet.doi else pallet.url
    if link is not None:
        made.add_link("The published likelihood (pallet) that was fitted", link)
    if record := _HEPDATA_DOI.fullmatch(pallet.doi or ""):
        made.add_related_recid(record[1])


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
        tally(publication.results),
        f"Contours that do not exist: {'; '.join(absent)}." if absent else "",
        f"{PROVENANCE} holds the digests of the fitted files and all settings.",
    ]
    return printable(" ".join(filter(None, sentences)))


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
