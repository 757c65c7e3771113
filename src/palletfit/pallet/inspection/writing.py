"""Analysis files of proposals, with comments, ready to edit."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from palletfit.core.files import write_atomically
from palletfit.core.text import printable
from palletfit.errors import ConfigError
from palletfit.pallet.inspection.proposal import Proposal


def write(proposals: Sequence[Proposal], path: Path, *, overwrite: bool = False) -> list[Path]:
    """Write an analysis file for each proposal.

    Parameters
    ----------
    proposals
        One or more.
    path
        The file; of several, each has the name of its analysis before the ending.
    overwrite
        Replace files that exist.

    Returns
    -------
    list
        The files.

    Raises
    ------
    ConfigError
        There is nothing to write, a file exists, or the path is that of no YAML file.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"An analysis file ends with .yaml, but this is {path.name!r}.",
            remedy="Give the file another name.",
            file=path,
        )
    if not proposals:
        raise ConfigError(
            "There is nothing to write: no signal patches belong to a workspace, and none is "
            "complete.",
            remedy="Read what `palletfit inspect` says of each file.",
            file=path,
        )
    paths = [path]
    if len(proposals) > 1:
        paths = [path.with_name(f"{path.stem}-{p.name}{path.suffix}") for p in proposals]
    for target in paths:
        if target.exists() and not overwrite:
            raise ConfigError(
                "The file exists, and may hold your changes.",
                remedy="Give another name, or replace it with --force, which is `overwrite=True` "
                "in a program.",
                file=target,
            )
    for target, proposal in zip(paths, proposals, strict=True):
        write_atomically(target, text_of(proposal, target.parent))
    return paths


def text_of(proposal: Proposal, folder: Path) -> str:
    """Write a proposal as YAML with comments.

    Parameters
    ----------
    proposal
        The proposal.
    folder
        Folder of the file, from which a source in it has a relative path.
    """
    data = dict(proposal.data)
    if "path" in data["pallet"]:
        data["pallet"] = {**data["pallet"], "path": _path_from(data["pallet"]["path"], folder)}
    lines = [
        "# Proposed by `palletfit inspect` from the content of the files. Titles and units are",
        "# guessed. Keys: docs/analyses.md; all of them: docs/configuration.md.",
        *(line for remark in proposal.remarks for line in _comment(f"- {remark}")),
        *(_comment(f"It does not run yet: {proposal.problem}.") if proposal.problem else ()),
        *_entry({"name": proposal.name, "title": data["title"]}),
        "",
        *_entry({"pallet": data["pallet"]}),
        "",
        *_entry({"regions": data["regions"]}),
        *(_entry({"use": data["use"]}) if "use" in data else ()),
        "",
        *([*_entry({"labels": data["labels"]}), ""] if "labels" in data else ()),
        *_planes(proposal),
        "# Further sections: slices, cross_section, hepdata.",
    ]
    return "\n".join(lines) + "\n"


def _path_from(path: str, folder: Path) -> str:
    """Write a path relative to the folder of an analysis file if it is below, else absolute."""
    absolute, start = Path(path).absolute(), folder.absolute()
    return (absolute.relative_to(start) if absolute.is_relative_to(start) else absolute).as_posix()


def _planes(proposal: Proposal) -> Iterator[str]:
    if proposal.complete:
        yield "# Further keys of regions: measurement, poi, fix, signal_in."
        return
    if not proposal.planes:
        yield "# No plane: results are tables. With masses, add `planes` for contours."
        return
    yield "planes:"
    for plane in proposal.planes:
        yield f"  # {plane.points} points"
        lines = _entry({plane.name: proposal.data["planes"][plane.name]})
        yield from (f"  {line}" for line in lines)
        if plane.below:
            yield "    # All points are below the diagonal; if kinematics forbid more:"
            yield "    # forbidden: {y_above: x}"


def _entry(data: Mapping[str, Any]) -> list[str]:
    lists = all(isinstance(value, list) for value in data.values())
    text = yaml.safe_dump(
        dict(data),
        sort_keys=False,
        allow_unicode=True,
        width=10**6,
        default_flow_style=None if lists else False,
    )
    return text.rstrip("\n").split("\n")


def _comment(text: str) -> list[str]:
    """Break a text into lines of comments."""
    return [f"# {printable(line)}" for line in textwrap.wrap(text, 98, subsequent_indent="  ")]
