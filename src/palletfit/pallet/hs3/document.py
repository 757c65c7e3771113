"""An HS3 document: its parts by name, and checked values.

HS3 documents come from elsewhere and are not trusted. Nothing in them is executed: a text is a name
or an error.
"""

from __future__ import annotations

import logging
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from palletfit.pallet.hs3.errors import Hs3Error
from palletfit.pallet.limits import check_depth, quoted

logger = logging.getLogger(__name__)

Spec = Mapping[str, Any]

#: Versions of the standard that are known, by their start.
_VERSIONS = ("0.1.9", "0.2")
_CORRECT = "Correct the document, or ask those who published it."
#: Names that an error lists.
_LISTED = 8
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother = 3, 200, 200
_REPR.maxlist = _REPR.maxdict = 5


def is_hs3(content: Any) -> bool:
    """Return whether the content of a JSON file is an HS3 document: it names the version."""
    metadata = content.get("metadata") if isinstance(content, Mapping) else None
    return isinstance(metadata, Mapping) and "hs3_version" in metadata


@dataclass
class Document:
    """An HS3 document.

    Attributes
    ----------
    content
        Content of the file.
    file
        Name of the file, for errors.
    remarks
        What a user should know about how it was read, each once.
    """

    content: Spec
    file: Path
    remarks: dict[str, None] = field(default_factory=dict)

    @classmethod
    def of(cls, content: Any, file: Path) -> Document:
        """Check version and depth of an HS3 document.

        Raises
        ------
        Hs3Error
            It does not name the version, or one that is not known.
        PalletError
            It nests too deeply.
        """
        document = cls(content, file)
        if not is_hs3(content):
            raise document.error(
                "The file is not an HS3 document: `metadata` does not name the `hs3_version`.",
                "Check which file is meant; pyhf's workspaces are read as they are.",
            )
        check_depth(content, file)
        version = content["metadata"]["hs3_version"]
        if not isinstance(version, str) or not version.startswith("0."):
            raise document.error(
                f"The HS3 version {short(version)} is not known.",
                "Convert the document to HS3 0.2.",
            )
        if not version.startswith(_VERSIONS):
            document.remark(f"the HS3 version {version} is read like 0.2")
        return document

    @property
    def is_roots(self) -> bool:
        """True if ROOT is among the programs that have written the document."""
        packages = self.content["metadata"].get("packages")
        if isinstance(packages, Mapping):
            return "ROOT" in packages
        return isinstance(packages, list) and any(
            isinstance(entry, Mapping) and entry.get("name") == "ROOT" for entry in packages
        )

    def remark(self, text: str) -> None:
        """Note what a user should know."""
        if text not in self.remarks:
            self.remarks[text] = None
            logger.warning("%s: %s", self.file, text)

    def error(self, problem: str, remedy: str = _CORRECT) -> Hs3Error:
        """Make the error of a part of the document."""
        return Hs3Error(problem, remedy=remedy, file=self.file)

    # ------------------------------------------------------------------ parts

    @cached_property
    def distributions(self) -> Mapping[str, Spec]:
        """Distributions by name."""
        return self._component("distributions")

    @cached_property
    def functions(self) -> Mapping[str, Spec]:
        """Functions by name."""
        return self._component("functions")

    @cached_property
    def data(self) -> Mapping[str, Spec]:
        """Data by name."""
        return self._component("data")

    @cached_property
    def likelihoods(self) -> Mapping[str, Spec]:
        """Likelihoods by name."""
        return self._component("likelihoods")

    @cached_property
    def analyses(self) -> Mapping[str, Spec]:
        """Analyses by name."""
        return self._component("analyses")

    @cached_property
    def domains(self) -> Mapping[str, Spec]:
        """Domains by name."""
        return self._component("domains")

    @cached_property
    def points(self) -> Mapping[str, Spec]:
        """Parameter points by name."""
        return self._component("parameter_points")

    def _component(self, key: str) -> Mapping[str, Spec]:
        members: dict[str, Spec] = {}
        for member in self.objects(self.content, key, f"`{key}`"):
            name = self.text(member, "name", f"an entry of `{key}`")
            if name in members:
                raise self.error(f"Two entries of `{key}` are called {short(name)}.")
            members[name] = member
        return members

    # ------------------------------------------------------------------ values

    def get(self, members: Mapping[str, Spec], name: Any, kind: str, user: str) -> Spec:
        """Give a part by its name.

        Raises
        ------
        Hs3Error
            There is none.
        """
        if not isinstance(name, str) or name not in members:
            raise self.error(
                f"{user} names the {kind} {short(name)}, which is not there.",
                f"{_CORRECT} It has: {listed(members)}.",
            )
        return members[name]

    def objects(self, parent: Spec, key: str, owner: str) -> Sequence[Spec]:
        """Give a list of objects; none if the key is missing."""
        members = parent.get(key)
        if members is None:
            return ()
        if not isinstance(members, list) or not all(isinstance(one, Mapping) for one in members):
            raise self.error(f"`{key}` in {owner} is not a list of objects.")
        return members

    def object(self, parent: Spec, key: str, owner: str) -> Spec:
        """Give an object."""
        member = parent.get(key)
        if not isinstance(member, Mapping):
            raise self.error(f"{owner} has no object `{key}`.")
        return member

    def text(self, parent: Spec, key: str, owner: str) -> str:
        """Give a text."""
        value = parent.get(key)
        if not isinstance(value, str):
            raise self.error(f"{owner} has no text `{key}`: {short(value)}.")
        return value

    def texts(self, parent: Spec, key: str, owner: str) -> list[str]:
        """Give a list of texts; none if the key is missing."""
        values = parent.get(key)
        if values is None:
            return []
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self.error(f"`{key}` of {owner} is not a list of texts.")
        return values

    def number(self, value: Any, owner: str) -> float:
        """Give a finite number.

        Raises
        ------
        Hs3Error
            It is none, or larger than any floating-point number.
        """
        try:
            number = float(value) if _is_number(value) else math.nan
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.error(f"{owner} is not a finite number: {short(value)}.")
        return number

    def numbers(self, values: Any, owner: str, size: int | None = None) -> list[float]:
        """Give a list of finite numbers, of a certain size if it is known."""
        if not isinstance(values, list):
            raise self.error(f"{owner} is not a list of numbers: {short(values)}.")
        if size is not None and len(values) != size:
            raise self.error(f"{owner} has {len(values)} numbers, and not {size}.")
        return [self.number(value, owner) for value in values]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def short(value: Any) -> str:
    """Quote a value of a document, which may be large."""
    if isinstance(value, int) and abs(value) > 10**20:
        return "a number of many digits"
    return quoted(_REPR.repr(value))


def begin(text: str) -> str:
    """Begin a sentence with a text."""
    return text[:1].upper() + text[1:]


def listed(names: Mapping[str, Any] | Sequence[str]) -> str:
    """List names, not too many."""
    chosen = list(names)
    more = f" and {len(chosen) - _LISTED} more" if len(chosen) > _LISTED else ""
    return (", ".join(short(name) for name in chosen[:_LISTED]) or "none") + more
