"""Additions to pyhf's workspaces: what other formats of likelihoods can say, and pyhf cannot.

- A normsys or histosys modifier may name its `interpolation`, a code of
  :data:`INTERPOLATION_CODES`. Without one it has that of the settings of the fit.
- A parameter of a measurement may name its `constraint`: ``Gauss``, with `auxdata` and `sigmas`;
  ``Poisson``, with `auxdata` and `factors`; or ``none``. A list has one for each component.
  Without widths those of a staterror or shapesys follow from yields and errors, as ever.
- `fixed` of a parameter may be a list, with one value for each component.

Only the batched engine reads them. A workspace without them is one of pyhf.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Spec = Mapping[str, Any]

#: Interpolation codes by the type of the modifier. An additive code of a normsys acts on its
#: factor: ``1 + shift``.
INTERPOLATION_CODES: Mapping[str, tuple[str, ...]] = {
    "normsys": ("code1", "code4", "code0", "code2", "code4p"),
    "histosys": ("code0", "code2", "code4p"),
}
CONSTRAINTS = ("Gauss", "Poisson", "none")


def extensions(workspace: Any) -> Iterator[str]:
    """Describe the additions of a workspace, each in a few words.

    Content of another shape than pyhf's schema says is ignored.
    """
    for modifier in _modifiers(workspace):
        if "interpolation" in modifier:
            yield (
                f"the {modifier.get('type')} {modifier.get('name')!r} has the interpolation "
                f"{modifier['interpolation']!r}"
            )
    for measurement in _objects(workspace, "measurements"):
        for entry in _objects(measurement.get("config"), "parameters"):
            if "constraint" in entry:
                yield f"the measurement sets the constraint of {entry.get('name')!r}"
            if isinstance(entry.get("fixed"), list):
                yield f"the measurement fixes some components of {entry.get('name')!r}"


def without_extensions(workspace: Any) -> Any:
    """Copy a workspace without its additions, for pyhf; without any, give the workspace itself."""
    if next(extensions(workspace), None) is None:
        return workspace
    plain = without_interpolation(workspace)
    measurements = [
        _changed(entry, "config", lambda config: _each(config, "parameters", _without_constraint))
        for entry in plain.get("measurements", ())
    ]
    return {**plain, "measurements": measurements}


def without_interpolation(workspace: Spec, codes: Mapping[str, str] | None = None) -> Any:
    """Copy a workspace without the interpolation codes that its modifiers name.

    Parameters
    ----------
    workspace
        A workspace.
    codes
        Codes by type of the modifier: only these are left out. None: all.
    """

    def plain(modifier: Any) -> Any:
        if not isinstance(modifier, Mapping) or "interpolation" not in modifier:
            return modifier
        if codes is not None and modifier["interpolation"] != codes.get(modifier.get("type", "")):
            return modifier
        return {key: value for key, value in modifier.items() if key != "interpolation"}

    return _each(
        workspace,
        "channels",
        lambda channel: _each(channel, "samples", lambda sample: _each(sample, "modifiers", plain)),
    )


def _modifiers(workspace: Any) -> Iterator[Spec]:
    for channel in _objects(workspace, "channels"):
        for sample in _objects(channel, "samples"):
            yield from _objects(sample, "modifiers")


def _objects(parent: Any, key: str) -> Iterator[Spec]:
    members = parent.get(key) if isinstance(parent, Mapping) else None
    for member in members if isinstance(members, list) else ():
        if isinstance(member, Mapping):
            yield member


def _changed(parent: Any, key: str, change: Any) -> Any:
    if not isinstance(parent, Mapping) or key not in parent:
        return parent
    return {**parent, key: change(parent[key])}


def _each(parent: Any, key: str, change: Any) -> Any:
    """Copy an object with a change of each member of one of its lists."""
    if not isinstance(parent, Mapping) or not isinstance(parent.get(key), list):
        return parent
    return {**parent, key: [change(member) for member in parent[key]]}


def _without_constraint(entry: Any) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    plain = {key: value for key, value in entry.items() if key != "constraint"}
    if isinstance(plain.get("fixed"), list):
        plain["fixed"] = False
    return plain
