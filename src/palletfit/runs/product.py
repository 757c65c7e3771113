"""What can be asked of every patch, and what computes it on a worker.

A hypothesis test is one product of a patch; upper limits are another. All go the same way: through
an executor into one record a patch, whose key holds the product's settings, too.

Imports nothing heavy: every process of the workflow has to know what records are outdated.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from palletfit.engine.versions import VERSIONS

if TYPE_CHECKING:
    from palletfit.config import Settings
    from palletfit.engine.engine import Engine
    from palletfit.errors import PalletfitError
    from palletfit.pallet.patches import Patch

    #: Takes an engine, patches and settings; yields each patch once, in any order, with its result
    #: (plain data with ``status``: ``ok`` or ``suspect``) or the error that explains why there is
    #: none.
    Computation = Callable[
        [Engine, Sequence[Patch], Mapping[str, Any]],
        Iterator[tuple[Patch, Mapping[str, Any] | PalletfitError]],
    ]

#: Modules whose function ``compute`` makes a product, with a record a patch.
_MODULES = {
    "limits": "palletfit.products.limits.compute",
    "mu_scan": "palletfit.products.mu_scan.compute",
    "diagnostics": "palletfit.products.diagnostics.compute",
    "toys": "palletfit.products.toys.compute",
}
#: The same of products that are not kept in records.
_OTHER_MODULES = {"points": "palletfit.products.points.compute"}
#: Sections of the configuration that a product depends on.
_SECTIONS = {
    "limits": ("limits",),
    "mu_scan": ("mu_scan", "limits"),
    "diagnostics": ("diagnostics",),
    "toys": ("toys",),
}
#: Keys that choose patches only, or how many toys there are and who makes them.
_CHOICES = {"patches", "toys", "precision", "toys_per_task"}
#: Products of an upper limit, which a test of discovery has none of.
UPPER_LIMITS = frozenset({"limits", "mu_scan"})
#: Products of chosen patches only; without a choice the first ones are of the patch that is nearest
#: to exclusion.
NEAR_EXCLUSION = frozenset({"diagnostics", "toys"})
CHOSEN = NEAR_EXCLUSION | {"mu_scan"}
#: Products that the reference engine does not make.
BATCHED_ONLY = frozenset({"diagnostics", "toys"})
#: Pseudo-experiments: several records a patch, each of one shard of its toys.
TOYS = "toys"


@dataclass(frozen=True)
class Product:
    """What is asked of every patch.

    Attributes
    ----------
    name
        Such as ``limits``; also the folder of its records.
    settings
        Plain data; part of the key of every record.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """What a key and a task say of it; nothing of a hypothesis test, which says the rest."""
        if self.name == HYPOTEST.name:
            return {}
        version = VERSIONS[self.name]
        return {"product": {"name": self.name, "version": version, "settings": dict(self.settings)}}

    @property
    def folder(self) -> str:
        """Name of the folder of its records, beside the manifest."""
        return records_folder(self.name)

    @property
    def unit(self) -> tuple[str, str]:
        """What a record is of, for people: one of them, and many."""
        return ("shard", "shards") if self.name == TOYS else ("patch", "patches")

    def file(self, stem: str) -> str:
        """What a file beside the records is called, so that products have their own."""
        return stem if self.name == HYPOTEST.name else f"{stem}-{self.name}"


#: Needs the settings of fits only.
HYPOTEST = Product("hypotest")
#: What is asked of every point of a large scan: a hypothesis test without its attempts.
POINTS = Product("points")
#: Names of the other ones that are kept in records.
OTHERS = tuple(_MODULES)


def records_folder(name: str) -> str:
    """Name of the folder of a product's records, beside its manifest."""
    return "fits" if name == HYPOTEST.name else name


def product_of(name: str, settings: Settings) -> Product:
    """The product of a name under a configuration."""
    if name == HYPOTEST.name:
        return HYPOTEST
    sections: dict[str, Any] = {
        section: getattr(settings, section).model_dump(mode="json", exclude=_CHOICES)
        for section in _SECTIONS[name]
    }
    if name in UPPER_LIMITS:
        sections["confidence_level"] = settings.contour.confidence_level
    return Product(name, sections)


def extent(name: str, settings: Settings) -> dict[str, Any]:
    """How much of a product is made: what changes which records there are, but none of them."""
    if name != TOYS:
        return {}
    return {"extent": settings.toys.model_dump(mode="json", include={"toys", "precision"})}


def computation(name: str) -> Computation:
    """What makes a product on a worker.

    Raises
    ------
    KeyError
        There is no such product.
    """
    module = {**_MODULES, **_OTHER_MODULES}[name]
    function: Computation = importlib.import_module(module).compute
    return function
