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
    """Write a submission and its archive, after the validator accepted it.

    Parameters
    ----------
    publication
        Content of the submission.
    folder
        Folder of its files; an earlier submission there is replaced.
    archive
        Path of the ``tar.gz`` for the upload.

    Raises
    ------
    SubmissionError
        HEPData would refuse the submission; nothing was replaced.
    StoreError
        The submission could not be written.
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
    content, extra, packed = scratch / "new", scratch / "extra", scratch / "packed"
    extra.mkdir()
    submission = _submission(publication, extra)
    # The library writes an archive into the working directory.
    with contextlib.chdir(extra):
        submission.create_files(str(content), validate=False)
    check(content)
    pack(content, packed)
    if folder.exists():
        shutil.rmtree(folder)
    content.rename(folder)
    packed.replace(archive)


def check(folder: Path) -> None:
    """Check a submission with HEPData's validator, without network.

    Raises
    ------
    SubmissionError
        The submission is not valid. The error names each file and its problems.
    """
    validator = FullSubmissionValidator(autoload_remote_schemas=False)
    if validator.validate(directory=str(folder)):
        return
    messages = [
        f"    {Path(file).name}: {' '.join(message.message.split())}"
        for file, errors in validator.get_messages().items()
        for message in errors
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
    """Make the submission in memory; files other than tables are written into `extra`."""
    provenance_data = provenance(publication)
    path = extra / PROVENANCE
    path.write_text(json.dumps(provenance_data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    submission = Submission()
    submission.comment = _comment(publication, provenance_data)
    if publication.analysis.pallet is not None:
        _add_links(submission, publication.analysis.pallet)
    submission.add_additional_resource(
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
        submission.add_table(table)
    return submission


def _add_links(submission: Submission, pallet: Pallet) -> None:
    link = f"https://doi.org/{pallet.doi}" if pallet.doi else pallet.url
    if link is not None:
        submission.add_link("The published likelihood (pallet) that was fitted", link)
    if record := _HEPDATA_DOI.fullmatch(pallet.doi or ""):
        submission.add_related_recid(record[1])


def _comment(publication: Publication, provenance_data: Mapping[str, Any]) -> str:
    analysis = publication.analysis
    abstract = analysis.hepdata.comment
    if abstract is None:
        abstract = ". ".join(filter(None, [analysis.title, analysis.reference])) + "."
    fit = provenance_data["fits"][0]
    software = {
        f"{name} {version}"
        for fit_entry in provenance_data["fits"]
        for name, version in (fit_entry["software"] or {}).items()
    }
    absent = [
        f"{CURVE_TITLES[name]}{publication.plane_names[plane]}: {state}"
        for plane, contour in provenance_data["contours"].items()
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
        abstract,
        fitted,
        tally(publication.results),
        f"Contours that do not exist: {'; '.join(absent)}." if absent else "",
        f"{PROVENANCE} holds the digests of the fitted files and all settings.",
    ]
    return printable(" ".join(filter(None, sentences)))


def _add_image(publication: Publication, plane: str, table: Table, extra: Path) -> None:
    """Add the plot of a plane with its thumbnail, under the names that HEPData expects.

    The thumbnail is made here, because hepdata_lib needs ImageMagick for it.
    """
    image = publication.images.get(plane)
    if image is None:
        return
    small = extra / f"thumb_{image.name}"
    save_thumbnail(image, small, THUMBNAIL)
    for path, description in ((image, "Image file"), (small, "Thumbnail image file")):
        table.add_additional_resource(description, str(path.resolve()), copy_file=True)
