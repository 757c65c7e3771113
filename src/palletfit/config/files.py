"""Find, read, extend and merge configuration files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from palletfit.config.analysis import PALLET_SOURCES, Analysis, CombinationMember
from palletfit.config.base import merge, parse
from palletfit.config.settings import Settings
from palletfit.core.text import did_you_mean
from palletfit.errors import ConfigError


def load_analysis(name: str, folder: Path) -> tuple[Analysis, list[Path]]:
    """Read one analysis by name or by path.

    An analysis file with ``extends: OTHER`` (a name, or a path relative to the file) holds only
    the keys that differ.

    Parameters
    ----------
    name
        Name of a file in `folder` (without its ending), or the path of a YAML file.
    folder
        Folder of named analyses, usually ``config/analyses``.

    Returns
    -------
    tuple
        The analysis, and all files that it was read from.

    Raises
    ------
    ConfigError
        There is no such analysis, or its file is wrong.
    """
    data, files = _load_extended(name, folder, ())
    analysis = parse(Analysis, data, file=files[0])
    return analysis, files


def load_analyses(settings: Settings, folder: Path) -> dict[str, Analysis]:
    """Read all selected analyses, by their name.

    Raises
    ------
    ConfigError
        See :func:`load_analysis`; also if two selected files give the same name.
    """
    analyses: dict[str, Analysis] = {}
    for selected in settings.analysis_names:
        analysis, files = load_analysis(selected, folder)
        if analysis.name in analyses:
            raise ConfigError(
                f"Two selected analyses have the name {analysis.name!r}.",
                remedy="Give one of them another `name`: results are kept by name.",
                file=files[0],
            )
        analyses[analysis.name] = analysis
    return analyses


def with_members(analyses: Mapping[str, Analysis], folder: Path) -> dict[str, Analysis]:
    """Add the members of combinations, at all depths, to the selected analyses.

    Returns
    -------
    dict
        Analyses by their name; the selected ones come first.

    Raises
    ------
    ConfigError
        See :func:`load_analysis`; also if a member has no such region or other labels, if two
        different analyses have one name, or if combinations are members of each other.
    """
    merged = dict(analyses)
    for analysis in analyses.values():
        _add_members(analysis, folder, merged, (analysis.name,))
    return merged


def member_sources(analysis: Analysis, folder: Path) -> list[tuple[str, str]]:
    """List the analysis and region of each member of a combination, in its order.

    Raises
    ------
    ConfigError
        See :func:`with_members`.
    """
    if analysis.combine is None:
        raise ConfigError(
            f"The analysis {analysis.name} is no combination.",
            remedy="Name one whose file has the key `combine`.",
        )
    sources = []
    for name, member in analysis.combine.members.items():
        source, _ = load_analysis(member.analysis, folder)
        sources.append((source.name, _member_region(analysis, name, member, source)))
    return sources


def _add_members(
    analysis: Analysis, folder: Path, analyses: dict[str, Analysis], above: tuple[str, ...]
) -> None:
    if analysis.combine is None:
        return
    for name, member in analysis.combine.members.items():
        source, files = load_analysis(member.analysis, folder)
        if source.name in above:
            raise ConfigError(
                f"Combinations are members of each other: {' > '.join([*above, source.name])}.",
                remedy="Remove one of the members.",
                file=files[0],
            )
        if analyses.setdefault(source.name, source) != source:
            raise ConfigError(
                f"Two different analyses have the name {source.name!r}; one of them is "
                f"{name} of the combination {analysis.name}.",
                remedy="Give one of them another `name`: results are kept by name.",
                file=files[0],
            )
        _member_region(analysis, name, member, source)
        _check_member_labels(analysis, name, member, source)
        _add_members(source, folder, analyses, (*above, source.name))


def _member_region(
    analysis: Analysis, name: str, member: CombinationMember, source: Analysis
) -> str:
    regions = source.used_regions if member.region is None else [member.region]
    if len(regions) != 1 or regions[0] not in source.regions:
        raise ConfigError(
            f"The member {name} of {analysis.name} needs one region of {source.name}, "
            f"but {'names ' + repr(member.region) if member.region else 'names none of several'}.",
            remedy=f"Set combine.members.{name}.region to one of {', '.join(source.regions)}.",
        )
    if source.regions[regions[0]].complete:
        raise ConfigError(
            f"The member {name} of {analysis.name} is the complete workspace {regions[0]} of "
            f"{source.name}: a combination identifies points of patchsets.",
            remedy="Combine the workspaces before, such as with `pyhf combine`, and fit the result "
            "as a complete workspace.",
        )
    if source.choice_of(regions[0]).blinded:
        raise ConfigError(
            f"The member {name} of {analysis.name} is blinded: its data would be what a fit of "
            f"{source.name} alone expects.",
            remedy="Take `asimov` and `blind` out of it, and blind the combination by keys of its "
            "own file; `channels` and `mask` of a member stay.",
        )
    return regions[0]


def _check_member_labels(
    analysis: Analysis, name: str, member: CombinationMember, source: Analysis
) -> None:
    unknown = sorted(set(member.labels) - set(source.labels))
    labels = [member.labels.get(label, label) for label in source.labels]
    if unknown or sorted(labels) != sorted(analysis.labels):
        raise ConfigError(
            f"The labels of the member {name} of {analysis.name} are {', '.join(source.labels)}"
            + (f", which become {', '.join(labels)}" if labels != source.labels else "")
            + f"; the combination has {', '.join(analysis.labels)}.",
            remedy=f"Say in combine.members.{name}.labels which of its labels is which one of the "
            "combination's; there must be as many.",
        )


def _load_extended(
    name: str, folder: Path, extending: tuple[Path, ...]
) -> tuple[dict[str, Any], list[Path]]:
    path = _find_analysis(name, folder, base=extending[-1].parent if extending else Path())
    if path.resolve() in (file.resolve() for file in extending):
        raise ConfigError(
            "Analysis files extend each other in a circle.",
            remedy="Remove one of the `extends` keys.",
            file=path,
        )
    data = read_yaml(path)
    data.setdefault("name", path.stem)
    pallet = data.get("pallet")
    for section, key in ((pallet, "path"), (data.get("cross_section"), "file")):
        if isinstance(section, dict) and isinstance(section.get(key), str):
            section[key] = str(path.parent / Path(section[key]).expanduser())
    if isinstance(data.get("points"), dict):
        data["points"] = _from_file(data["points"], path.parent)
    _resolve_members(data, path.parent)
    parent = data.pop("extends", None)
    if parent is None:
        return data, [path]
    base, files = _load_extended(str(parent), folder, (*extending, path))
    inherited = base.get("pallet")
    if isinstance(pallet, dict) and isinstance(inherited, dict) and PALLET_SOURCES & set(pallet):
        # A source replaces the inherited one: a pallet has one source only.
        base["pallet"] = {
            key: value for key, value in inherited.items() if key not in PALLET_SOURCES
        }
    for section, replaced in (("combine", "pallet"), ("pallet", "combine")):
        if section in data and section not in base and replaced in base:
            # A combination inherits what is drawn, but not the files of one likelihood.
            base = {
                k: v for k, v in base.items() if k not in (replaced, "regions", "use", "patches")
            }
    return merge(base, data), [path, *files]


def _resolve_members(data: dict[str, Any], folder: Path) -> None:
    """Resolve the relative paths of a combination's members from its file."""
    combine = data.get("combine")
    members = combine.get("members") if isinstance(combine, dict) else None
    for member in members.values() if isinstance(members, dict) else ():
        name = member.get("analysis") if isinstance(member, dict) else None
        if isinstance(name, str) and name.endswith((".yaml", ".yml")):
            member["analysis"] = str(folder / Path(name).expanduser())


def _from_file(points: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Resolve the relative paths of a scan's section from the folder of its file."""

    def resolve(value: Any) -> Any:
        return str(folder / Path(value).expanduser()) if isinstance(value, str) else value

    resolved = dict(points)
    if "table" in resolved:
        resolved["table"] = resolve(resolved["table"])
    if isinstance(resolved.get("depends"), list):
        resolved["depends"] = [resolve(entry) for entry in resolved["depends"]]
    location, colon, name = str(resolved.get("function", "")).partition(":")
    if location.endswith(".py"):
        resolved["function"] = f"{resolve(location)}{colon}{name}"
    return resolved


def _find_analysis(name: str, folder: Path, *, base: Path) -> Path:
    if name.endswith((".yaml", ".yml")):
        path = base / Path(name).expanduser()
        if path.is_file():
            return path
        raise ConfigError(
            f"There is no analysis file {name!r}.",
            remedy="Give the path of a YAML file shaped like config/analyses/demo.yaml.",
            file=path,
        )
    path = folder / f"{name}.yaml"
    names = sorted(entry.stem for entry in folder.glob("*.yaml"))
    if name in names:
        return path
    raise ConfigError(
        f"There is no analysis {name!r}.",
        remedy=f"{did_you_mean(name, names)}Known ones: {', '.join(names)}; "
        "or give the path of a YAML file shaped like config/analyses/demo.yaml.",
        file=folder,
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises
    ------
    ConfigError
        The file is missing, is not YAML, or is not a mapping.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"Cannot read the file: {error.strerror}.", remedy="Check its path.", file=path
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"The file is not UTF-8 text: {error}.", remedy="Save it as UTF-8.", file=path
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(
            f"The file is not valid YAML: {' '.join(str(error).split())}",
            remedy="Correct the line named above.",
            file=path,
        ) from None
    if not isinstance(data, dict):
        raise ConfigError(
            "The file is not a mapping of keys to values.",
            remedy="Give keys and values, as the guides in docs/ show them.",
            file=path,
        )
    return data
