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
    "histosys": {
        0: "code0",
        2: "code2",
        3: "code2",
        4: "code4p",
        1: "code1",
        5: "code4",
        6: "code4p",
    },
}
#: Numbers of ROOT's codes that multiply the yields of a histosys, and codes that always do.
_MULTIPLYING_NUMBERS = (1, 5, 6)
_MULTIPLYING = ("code1", "code4")
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


def read_code(document: Document, kind: str, value: Any, owner: str) -> tuple[str, bool]:
    """Give the code of an interpolation, and whether it multiplies the yields of a histosys.

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
        There is no such interpolation.
    """
    code: str | None = None
    multiplies = False
    if isinstance(value, str):
        code = _BY_NAME.get(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        code = _BY_NUMBER[kind].get(value)
        multiplies = value in _MULTIPLYING_NUMBERS
    elif isinstance(value, Mapping):
        functions = tuple(value.get(key) for key in ("type", "in", "out"))
        if all(function is None or isinstance(function, str) for function in functions):
            code = _BY_FUNCTIONS.get(functions)  # type: ignore[arg-type]
            multiplies = functions[0] == "mult"
    if code is None:
        raise document.error(f"The interpolation {short(value)} of {owner} is unknown.")
    return code, kind == "histosys" and (multiplies or code in _MULTIPLYING)
