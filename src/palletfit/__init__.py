"""Distributed statistical inference on published likelihoods.

``palletfit.hypotest`` tests all signal patches of a likelihood, and ``PointTests`` very many
signals. ``fit``, ``fits``, ``pulls``, ``yields``, ``goodness_of_fit``, ``likelihood_scan``,
``likelihood_contours``, ``grouped_impacts``, ``upper_limit``, ``upper_limits``, ``mu_scan``,
``diagnose`` and ``toys`` stand beside them; see :mod:`palletfit.api`.
``referee`` says where a learned likelihood is wrong.
``read_hs3`` and ``write_hs3`` are for the HEP Statistics Serialization Standard.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from palletfit.core.version import __version__

if TYPE_CHECKING:
    from palletfit.api import (
        BestFit,
        PointTests,
        Results,
        diagnose,
        fit,
        fits,
        goodness_of_fit,
        grouped_impacts,
        hs3_document,
        hypotest,
        inspect,
        likelihood_contours,
        likelihood_scan,
        mu_scan,
        pulls,
        read_hs3,
        referee,
        toys,
        upper_limit,
        upper_limits,
        write_hs3,
        yields,
    )

__all__ = [
    "BestFit",
    "PointTests",
    "Results",
    "__version__",
    "diagnose",
    "fit",
    "fits",
    "goodness_of_fit",
    "grouped_impacts",
    "hs3_document",
    "hypotest",
    "inspect",
    "likelihood_contours",
    "likelihood_scan",
    "mu_scan",
    "pulls",
    "read_hs3",
    "referee",
    "toys",
    "upper_limit",
    "upper_limits",
    "write_hs3",
    "yields",
]


def __getattr__(name: str) -> Any:
    # Not imported before it is asked for: most programs need a small part of the package only.
    if name in __all__:
        from palletfit import api

        return getattr(api, name)
    # Python offers close names of those that `dir` lists.
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message, name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
