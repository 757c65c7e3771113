"""Names of interpolations in HS3 documents, and HistFactory's codes.

HS3 0.2 names the functions `lin`, `log`, `parabolic` and `poly6`. ROOT writes the number of its
code, or an object with the functions inside and outside of one standard deviation; pyhs3 writes the
code's name in pyhf. The numbers are those of ROOT's FlexibleInterpVar and PiecewiseInterpolation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palletfit.pallet.extensions import INTERPOLATION_CODES
from palletfit.pallet.hs3.document import Document, short

#: Names of HS3 0.2 and of pyhs3.
_BY_NAME = {
    "lin": "code0",
    "log": "code1",
    "exp": "code1",
    "parabolic": "code2",
    "poly6": "code4p",
    **{code: code for codes in INTERPOLATION_CODES.values() for code in codes},
}
_BY_NUMBER = {
    "normsys": {0: "code0", 1: "code1", 2: "code2", 3: "code2", 4: "code4", 5: "code4"},
    "histosys": {0: "code0", 1: "code1", 2: "code2", 3: "code2", 4: "code4p", 5: "code4"},
}
#: Functions inside and outside, None where they are one.
_BY_FUNCTIONS = {
    ("add", "poly1", None): "code0",
    ("mult", "exp", None): "code1",
    ("add", "poly2", "poly1"): "code2",
    ("add", "poly6", "poly1"): "code4p",
    ("mult", "poly6", "exp"): "code4",
    ("mult", "poly6", "poly1"): "code4p",
}
#: pyhf's codes by type of modifier, which are those of HS3 documents that name none.
DEFAULTS = {"normsys": "code4", "histosys": "code4p"}
#: Names of HS3 0.2 by code; the others have none.
NAMES = {"code0": "lin", "code1": "log", "code2": "parabolic", "code4p": "poly6"}
#: Functions of a code that has no name.
FUNCTIONS = {"code4": {"type": "mult", "in": "poly6", "out": "exp"}}


def is_additive(value: Any) -> bool:
    """Return whether an interpolation says that several of a sample add up."""
    if isinstance(value, Mapping):
        return value.get("type") == "add"
    return isinstance(value, int) and not isinstance(value, bool) and value in (0, 2, 3)


def read_code(document: Document, kind: str, value: Any, owner: str) -> str:
    """Give the code of an interpolation.

    Parameters
    ----------
    document
        The document.
    kind
        Type of the modifier, ``normsys`` or ``histosys``.
    value
        Name, number or functions.
    owner
        The modifier, for errors.

    Raises
    ------
    Hs3Error
        There is no such interpolation, or the engine does not have it.
    """
    code: str | None = None
    if isinstance(value, str):
        code = _BY_NAME.get(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        code = _BY_NUMBER[kind].get(value)
    elif isinstance(value, Mapping):
        functions = tuple(value.get(key) for key in ("type", "in", "out"))
        if all(function is None or isinstance(function, str) for function in functions):
            code = _BY_FUNCTIONS.get(functions)  # type: ignore[arg-type]
            if kind == "histosys" and functions[0] != "add":
                code = "" if code else None
    if code is None:
        raise document.error(f"The interpolation {short(value)} of {owner} is unknown.")
    if code not in INTERPOLATION_CODES[kind]:
        raise document.error(
            f"{owner} has the interpolation {short(value)}: palletfit has no multiplicative "
            "interpolation of a histosys.",
            "Write the variation as normsys modifiers, one sample for each bin.",
        )
    return code
