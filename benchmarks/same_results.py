"""Compare two results folders of the workflow: `same_results.py BEFORE AFTER`.

For changes of code that must not change results. Make both folders by the same commands on the same
machine, one with the code before the change and one with the code after it:

    snakemake --profile profiles/local --config analyses=demo -- all limits diagnostics mu_scan toys

Compared are the names of all files but hidden ones (locks, the state of live pages). JSON, CSV and
YAML files and hepdata.tar.gz are compared by content: numbers by their decimal digits, with the
order of keys and columns. That includes every record, with its key. PNG files are compared byte by
byte with --plots. PDF and HTML files hold times and are not compared.

Not compared are, precisely:

- keys `fit_time`, `build_time`, `seconds` and `compile_seconds` of JSON files at any depth, and
  columns of these names in CSV files: times;
- key `worker` of records: host, process, device, times, and whether the process was warm;
- keys `size` and `mtime_ns` of a manifest's patches: of files that hold times;
- key `sha256` at the top of records: the checksum of a content that holds times;
- values of keys `palletfit`, and what follows the word palletfit in YAML files: its version;
- the folder that holds BEFORE or AFTER, in front of paths.

The exit code is 1 if there is any difference.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Folders of records below REGION/.
RECORD_FOLDERS = frozenset({"fits", "limits", "mu_scan", "diagnostics", "toys"})
#: Keys and columns that hold times, at any depth.
TIMES = frozenset({"fit_time", "build_time", "seconds", "compile_seconds"})
#: Further keys that are ignored in records (at the top), and in the patches of manifests.
RECORD_ONLY, MANIFEST_ONLY = frozenset({"worker", "sha256"}), frozenset({"size", "mtime_ns"})
#: Keys whose values are ignored, but not whether they are there.
VERSIONS = frozenset({"palletfit"})
_VERSION_TEXT = re.compile(r"\bpalletfit(\s+)\d+(\.\w+)*")
_ABSENT = "(absent)"


@dataclass
class Comparison:
    """Differences between two folders, and how much was compared."""

    before: Path
    after: Path
    plots: bool = False
    files: int = 0
    records: int = 0
    differences: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Compare all files."""
        before, after = visible_files(self.before), visible_files(self.after)
        for name in sorted(before.keys() | after.keys()):
            if name not in after:
                self.differences.append(f"{name}: missing in {self.after}")
            elif name not in before:
                self.differences.append(f"{name}: only in {self.after}")
            else:
                self._compare_files(name, before[name], after[name])

    def _compare_files(self, name: str, before: Path, after: Path) -> None:
        compared = {".json", ".csv", ".yaml", ".gz", *([".png"] if self.plots else [])}
        if before.suffix not in compared:
            return
        self.files += 1
        self.records += is_record(name)
        contents = before.read_bytes(), after.read_bytes()
        if contents[0] == contents[1]:
            return
        if name.endswith(".tar.gz"):
            self._compare_archives(name, *contents)
        else:
            self._compare_contents(name, *contents)

    def _compare_archives(self, name: str, before: bytes, after: bytes) -> None:
        old, new = members(before), members(after)
        for member in sorted(old.keys() | new.keys()):
            label = f"{name}/{member}"
            if member not in old or member not in new:
                folder = self.after if member in new else self.before
                self.differences.append(f"{label}: only in {folder}")
            elif old[member] != new[member]:
                self._compare_contents(label, old[member], new[member])

    def _compare_contents(self, name: str, before: bytes, after: bytes) -> None:
        suffix = Path(name).suffix
        if suffix == ".png":
            if self.plots:
                self.differences.append(f"{name}: the images differ")
            return
        old = without_folder(before.decode(), self.before)
        new = without_folder(after.decode(), self.after)
        if suffix == ".json":
            differences = json_differences(name, old, new)
        elif suffix == ".csv":
            differences = csv_differences(old, new)
        else:
            differences = line_differences(old, new)
        self.differences += [f"{name}: {difference}" for difference in differences]


def visible_files(folder: Path) -> dict[str, Path]:
    """Return the files below a folder by their names in it, without hidden ones."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path
        for path in paths
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


def is_record(name: str) -> bool:
    """Return true for a file in ANALYSIS/REGION/ and a folder of records."""
    parts = name.split("/")
    return len(parts) > 3 and parts[2] in RECORD_FOLDERS and name.endswith(".json")


def members(archive: bytes) -> dict[str, bytes]:
    """Return the files in a tar archive by name."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {
            member.name: file.read()
            for member in tar.getmembers()
            if (file := tar.extractfile(member)) is not None
        }


def without_folder(text: str, folder: Path) -> str:
    """Remove the folder that holds the results from all paths in a text."""
    return text.replace(f"{folder.resolve().parent}/", "")


def json_differences(name: str, before: str, after: str) -> Iterator[str]:
    """Compare two JSON files.

    Parameters
    ----------
    name
        File name, which says whether it is a record.
    before, after
        Their texts.

    Yields
    ------
    str
        Key path, and both values.
    """
    old, new = read_exactly(before), read_exactly(after)
    if is_record(name):
        old, new = without_keys(old, RECORD_ONLY), without_keys(new, RECORD_ONLY)
    elif is_manifest(old) and is_manifest(new):
        old, new = without_file_times(old), without_file_times(new)
    yield from value_differences("", old, new)
    if layout(before) != layout(after):
        yield "the layout of lines differs"


def read_exactly(text: str) -> Any:
    """Parse JSON, with numbers as the digits that are written."""
    return json.loads(text, parse_float=Number, parse_int=Number, parse_constant=Number)


class Number(str):
    """The digits of a number, other than a text of the same characters."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Number) and str.__eq__(self, other)

    def __hash__(self) -> int:
        return super().__hash__()

    def __repr__(self) -> str:
        return str(self)


def without_keys(content: Any, names: frozenset[str]) -> Any:
    """Remove keys at the top of a record."""
    if not isinstance(content, Mapping):
        return content
    return {name: value for name, value in content.items() if name not in names}


def is_manifest(content: Any) -> bool:
    """Return true for a region's list of records."""
    return isinstance(content, Mapping) and {"title", "labels", "fitted", "patches"} <= set(content)


def without_file_times(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Remove size and time of the records' files from a manifest."""
    patches = {
        name: without_keys(entry, MANIFEST_ONLY) for name, entry in manifest["patches"].items()
    }
    return {**manifest, "patches": patches}


def value_differences(path: str, before: Any, after: Any) -> Iterator[str]:
    """Compare two values of JSON, and give the paths of keys at which they differ."""
    label = path or "(top)"
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys([*before, *after]):
            if name in TIMES and name in before and name in after:
                continue
            if name in VERSIONS and name in before and name in after:
                continue
            below = f"{path}.{name}" if path else name
            yield from value_differences(below, before.get(name, _ABSENT), after.get(name, _ABSENT))
        if before.keys() == after.keys() and list(before) != list(after):
            yield f"{label}: the order of keys differs"
    elif isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            yield f"{label}: {len(before)} entries, then {len(after)}"
        for position, (old, new) in enumerate(zip(before, after, strict=False)):
            yield from value_differences(f"{path}[{position}]", old, new)
    elif type(before) is not type(after) or before != after:
        yield f"{label}: {shortened(before)}, then {shortened(after)}"


def layout(text: str) -> tuple[str, int, bool]:
    """Tell how a file is laid out: its opening, indentation, and the end of the last line."""
    second = text.partition("\n")[2]
    return text[:2], len(second) - len(second.lstrip()), text[-1:] == "\n"


def csv_differences(before: str, after: str) -> Iterator[str]:
    """Compare two tables, and give row and column of what differs."""
    old, new = list(csv.reader(io.StringIO(before))), list(csv.reader(io.StringIO(after)))
    if old[:1] != new[:1]:
        yield f"columns {old[:1]}, then {new[:1]}"
        return
    if len(old) != len(new):
        yield f"{len(old) - 1} rows, then {len(new) - 1}"
    for number, (row, other) in enumerate(zip(old[1:], new[1:], strict=False), 1):
        for column, value, changed in zip(old[0], row, other, strict=False):
            if column not in TIMES and value != changed:
                yield f"row {number} ({row[0]}), {column}: {value}, then {changed}"
        if len(row) != len(other):
            yield f"row {number} ({row[0]}): {len(row)} values, then {len(other)}"


def line_differences(before: str, after: str) -> Iterator[str]:
    """Compare two texts line by line, but for the version of palletfit."""
    old, new = (_VERSION_TEXT.sub(r"palletfit\1VERSION", text) for text in (before, after))
    lines = old.splitlines(keepends=True), new.splitlines(keepends=True)
    if len(lines[0]) != len(lines[1]):
        yield f"{len(lines[0])} lines, then {len(lines[1])}"
    for number, (line, other) in enumerate(zip(*lines, strict=False), 1):
        if line != other:
            yield f"line {number}: {line.strip()!r}, then {other.strip()!r}"


def shortened(value: Any) -> str:
    """Write a value on one line of limited length."""
    text = value if value is _ABSENT else repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def main() -> int:
    """Compare two folders, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, metavar="BEFORE", help="results of the code before")
    parser.add_argument("after", type=Path, metavar="AFTER", help="results of the code after")
    parser.add_argument("--plots", action="store_true", help="compare PNG files, too")
    arguments = parser.parse_args()
    for folder in (arguments.before, arguments.after):
        if not folder.is_dir():
            parser.error(f"there is no folder {folder}")
    comparison = Comparison(arguments.before, arguments.after, arguments.plots)
    comparison.run()
    for difference in comparison.differences:
        print(difference)
    print(
        f"compared {comparison.files} files, of which {comparison.records} are records: "
        f"{len(comparison.differences)} differences"
    )
    return 1 if comparison.differences or not comparison.files else 0


if __name__ == "__main__":
    sys.exit(main())
