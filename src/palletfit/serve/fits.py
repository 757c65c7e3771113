"""Fits of the service, in its worker processes.

A worker keeps the models that it used last, lowered to arrays. Points and answers are plain data.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from palletfit.backends.likelihood import Recent
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.measurements import Question as Changes
from palletfit.engine.measurements import ask, signal_patch
from palletfit.engine.profiles import Minima
from palletfit.engine.records import HypotestResult, reproducible
from palletfit.errors import PalletError, PalletfitError
from palletfit.pallet.patches import Patch
from palletfit.products.limits.compute import upper_limits, with_bound
from palletfit.serve.protocol import HYPOTEST, LIMIT, NLL, Point, Question, failure
from palletfit.serve.work import Answer, Answers, ModelFile

#: So many models are kept in a worker, and structures of signals of each.
_MODELS, _LAYOUTS = 8, 64
#: What answers leave out where no details are asked for.
_DETAILS = ("fits", "software")

_engines: Recent[tuple[str, str | None], BatchedEngine] = Recent(_MODELS)


def answer(model: ModelFile, question: Question, points: Sequence[Point]) -> Answers:
    """Answer a question for some points, which are fitted together.

    Raises
    ------
    Exception
        An unexpected one; the batch is then asked point by point.
    """
    began = time.process_time()
    engine = _engine(model, question)
    patches: list[Patch] = []
    remarks: dict[str, tuple[str, ...]] = {}
    answers: dict[str, Answer] = {}
    for number, point in enumerate(points):
        name = str(number)
        try:
            patch, remarks[name] = _patch(engine, question, point, name)
            patches.append(patch)
        except PalletfitError as error:
            answers[name] = failure(error)
    for patch, result in _results(engine, question, patches):
        if isinstance(result, PalletfitError):
            answers[patch.name] = failure(result)
        else:
            remarked = replace(result, remarks=(*remarks[patch.name], *result.remarks))
            answers[patch.name] = _plain(remarked, question)
    if engine.layouts > _LAYOUTS:
        _engines.forget((model.digest, question.measurement))
    in_order = [answers[str(number)] for number in range(len(points))]
    return Answers(in_order, time.process_time() - began, os.getpid())


def _engine(model: ModelFile, question: Question) -> BatchedEngine:
    """Give the engine of a model with the settings of a question."""
    settings = question.fit_settings()

    def make() -> BatchedEngine:
        return BatchedEngine(json.loads(model.path.read_bytes()), settings)

    return _engines.get((model.digest, question.measurement), make).with_settings(settings)


def _patch(
    engine: BatchedEngine, question: Question, point: Point, name: str
) -> tuple[Patch, tuple[str, ...]]:
    """Make the patch that adds the signal of a point, and remarks on it."""
    workspace, measurement = engine.workspace, question.measurement
    changes = Changes(signal=point.signal, uncertainties=point.uncertainties or {})
    if point.patch is not None:
        if not isinstance(point.patch, list):
            raise PalletError(
                "The `patch` is no list of operations.",
                remedy="Send the operations of a JSON Patch (RFC 6902).",
            )
        patch = Patch(name, (), point.patch)
        return patch, ask(workspace, measurement, changes, [patch]).remarks
    if point.signal is None:
        ask(workspace, measurement, changes)
        return Patch(name, (), ()), ()
    patch, remarks = signal_patch(workspace, measurement, changes, name)
    return _bounded(patch, question.mu_max), remarks


def _bounded(patch: Patch, mu_max: float | None) -> Patch:
    """Let the measurement that a patch brings have another upper bound, too."""
    if mu_max is None:
        return patch
    operations = []
    for operation in patch.operations:
        if operation["path"].startswith("/measurements/"):
            measured = with_bound({"measurements": [operation["value"]]}, mu_max)
            operations.append({**operation, "value": measured["measurements"][0]})
        else:
            operations.append(dict(operation))
    return replace(patch, operations=operations)


def _results(
    engine: BatchedEngine, question: Question, patches: Sequence[Patch]
) -> Iterable[tuple[Patch, Any]]:
    if question.kind == HYPOTEST:
        return engine.hypotests(patches, brief=True)
    if question.kind == LIMIT:
        level, settings = question.confidence_level, question.limit_settings()
        return upper_limits(engine, patches, level, settings)
    return engine.calculate(Minima(question.mu), patches)


def _plain(result: Any, question: Question) -> Answer:
    """Make the answer of a result, with the names of the command line's JSON."""
    content: Mapping[str, Any] = reproducible(result.as_json())
    reasons = list(getattr(result, "reasons", ()))
    if isinstance(result, HypotestResult):
        doubts = {name: fit.reason for name, fit in result.fits.items() if not fit.trusted}
        reasons = [f"{name} fit: {reason}" for name, reason in doubts.items()]
    elif question.kind == NLL and result.status != "ok":
        reasons = [result.evidence.reason]
    kept = {key: value for key, value in content.items() if question.details or key not in _DETAILS}
    return {**kept, "reasons": reasons}
