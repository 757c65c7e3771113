"""The work of a worker: points of one model and question in, their answers out.

The service itself imports no physics: it starts sooner, and a worker imports it once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palletfit.serve.protocol import Point, Question

#: Plain data.
Answer = dict[str, Any]


@dataclass(frozen=True)
class ModelFile:
    """A model that the service has read, checked and written for its workers.

    Attributes
    ----------
    name
        Name in requests.
    path
        JSON file of the workspace, which is the service's own.
    digest
        SHA-256 of its text.
    """

    name: str
    path: Path
    digest: str


@dataclass(frozen=True)
class Answers:
    """Answers to the points of a batch, in their order, and what they cost.

    Attributes
    ----------
    answers
        Plain data of each point.
    seconds
        Processor time of the batch in its worker.
    worker
        Identifier of the worker's process.
    """

    answers: list[Answer]
    seconds: float
    worker: int


def answer(model: ModelFile, question: Question, points: Sequence[Point]) -> Answers:
    """Answer in a worker; see :func:`palletfit.serve.fits.answer`."""
    from palletfit.serve import fits

    return fits.answer(model, question, points)
