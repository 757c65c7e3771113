"""The likelihood of one signal, minimised when asked, with pyhf's conventions for its value.

A background is read and lowered once in a process, and all its signals share that. The fits are
those of a hypothesis test (:mod:`palletfit.engine.batch`): background-only, free, at a signal
strength, and the latter on Asimov data. They are made one by one, as callers ask for them.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from palletfit.backends.order import Order
from palletfit.config import FitSettings
from palletfit.core.arrays import FloatArray
from palletfit.engine.batch import SHARP, SUGGESTED, BatchFits
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.evaluation import BatchLikelihood
from palletfit.engine.fit_records import fit_records
from palletfit.engine.fits import SAME, Fits
from palletfit.engine.likelihood import constants
from palletfit.engine.lowering import Lowered
from palletfit.engine.parameters import SETTINGS, measurement_of
from palletfit.engine.samples import NORM, Spec
from palletfit.errors import PalletError
from palletfit.pallet.hs3 import is_hs3, read_hs3, read_workspace
from palletfit.pallet.patches import Patch, apply_sharing
from palletfit.pallet.patchset import check_workspace

#: A file, or its content.
Source = str | Path | Mapping[str, Any]
#: So many backgrounds are kept in a process, and data sets and signal strengths of a likelihood.
_BACKGROUNDS, _DATA_SETS, _STRENGTHS = 8, 16, 512
#: Where the curvature of the likelihood in mu is taken, if mu is zero.
_OFF_ZERO = 1e-6
#: NLL where no parameters are possible. Infinite values would leave tools without CLs: their
#: difference on the data and on Asimov data is not a number.
IMPOSSIBLE = 1e10
#: Observed counts below this are none: SModelS writes 1e-8 for that.
_LEAST_COUNT = 1e-7
#: So many steps at most lead from a possible signal strength to another one.
_STEPS = 40
#: Name of the sample that carries the parameter of interest of a patch without signal.
_NO_SIGNAL = "(no signal)"

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The values that were used last, made when they are not there.

    Parameters
    ----------
    size
        How many of them are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Give the value of a key, or make it."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = self._values[key] = make()
        if len(self._values) > self._size:
            self._values.popitem(last=False)
        return value

    def forget(self, key: Key) -> None:
        """Remove a key that is there."""
        self._values.pop(key, None)

    def present(self, key: Key) -> Value | None:
        """Give the value of a key if it is there."""
        return self._values.get(key)

    def pairs(self) -> list[tuple[Key, Value]]:
        """List keys and values, the last used ones last."""
        return list(self._values.items())


# --------------------------------------------------------------------------- backgrounds


@dataclass
class SharedBackground:
    """A background-only workspace that was read once, and what fits of its signals share.

    Attributes
    ----------
    workspace
        Content, which must not change.
    engine
        Keeps the lowered background, and compiled functions of its shapes.
    lock
        Held during fits: the compiled functions hold the signal that is fitted.
    minima
        Background-only fits that are the same for several signals: NLL and parameters by name.
    """

    workspace: Spec
    engine: BatchedEngine
    lock: threading.RLock = field(default_factory=threading.RLock)
    minima: Recent[bytes, tuple[float, dict[str, float]]] = field(
        default_factory=lambda: Recent(_DATA_SETS)
    )


_shared: Recent[tuple[str, str | None], SharedBackground] = Recent(_BACKGROUNDS)
_shared_lock = threading.Lock()


def as_json(content: Any) -> str:
    """Write a JSON value, with NumPy's arrays and numbers as lists and numbers.

    Raises
    ------
    PalletError
        There is something else in it.
    """
    try:
        return json.dumps(content, default=lambda value: value.tolist())
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise PalletError(
            f"The content is not JSON: {error}.",
            remedy="Give what a JSON file may hold: objects, lists, texts and numbers.",
        ) from None


def shared_background(source: Source, measurement: str | None = None) -> SharedBackground:
    """Read and check a background-only workspace, once in a process.

    Parameters
    ----------
    source
        File or content of a workspace; content is compared, not its place in memory.
    measurement
        Name of the measurement; None: the first one.

    Raises
    ------
    PalletError
        It is not a workspace.
    """
    is_file = isinstance(source, (str, Path))
    path = Path(source) if isinstance(source, (str, Path)) else Path("background_only_model")
    text = as_json(read_workspace(path) if is_file else source)
    key = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest(), measurement
    with _shared_lock:
        return _shared.get(key, lambda: _read(json.loads(text), path, measurement))


def _read(content: Any, path: Path, measurement: str | None) -> SharedBackground:
    workspace = read_hs3(content) if isinstance(content, dict) and is_hs3(content) else content
    check_workspace(workspace, path)
    names = [entry["name"] for entry in workspace["measurements"]]
    if measurement not in (None, *names):
        raise PalletError(
            f"The workspace has no measurement {measurement!r}.",
            remedy=f"It has {', '.join(map(repr, names))}.",
            file=path,
        )
    settings = FitSettings(measurement=measurement)
    return SharedBackground(workspace, BatchedEngine(workspace, settings))


# --------------------------------------------------------------------------- a signal


@dataclass(frozen=True)
class Conditions:
    """Conditions of a fit: its data, bounds, and fixed parameters.

    Attributes
    ----------
    main, aux
        Data of the batch, ``(B,)`` and ``(K,)``.
    lower, upper
        Bounds of all columns, ``(K,)``.
    fixed
        Columns that are fixed beside those of the measurement, and their values; without the
        parameter of interest.
    """

    main: FloatArray
    aux: FloatArray
    lower: FloatArray
    upper: FloatArray
    fixed: Mapping[int, float]

    @property
    def key(self) -> tuple[Any, ...]:
        """Give what tells them from others."""
        arrays = (self.main, self.aux, self.lower, self.upper)
        return (*(array.tobytes() for array in arrays), tuple(sorted(self.fixed.items())))


@dataclass(frozen=True)
class Minimum:
    """The lowest minimum of a fit.

    Attributes
    ----------
    nll
        Negative log-likelihood with all constants, as pyhf's; :data:`IMPOSSIBLE` where there are no
        parameters with a likelihood.
    point
        Parameters in the columns of the batch, ``(K,)``.
    trusted, reason
        Whether it is proven to be a minimum, and why.
    """

    nll: float
    point: FloatArray
    trusted: bool
    reason: str


class SignalLikelihood:
    """The likelihood of a background with one signal patch.

    Parameters
    ----------
    background
        Background-only workspace.
    operations
        JSON Patch that adds the signal.

    Attributes
    ----------
    spec
        Full workspace.
    batch
        The same as arrays.
    order
        Order of parameters and data.
    alive
        True if a sample with the parameter of interest has a yield other than zero, whatever its
        shape uncertainties are.

    Raises
    ------
    PalletError
        The patch does not apply, or the batched engine does not support the model.
    """

    def __init__(
        self, background: SharedBackground, operations: Sequence[Mapping[str, Any]]
    ) -> None:
        self.background, self.operations = background, operations
        engine = background.engine
        patch = Patch("signal_patch", (), operations)
        workspace = apply_sharing(background.workspace, patch)
        poi = measurement_of(workspace, engine.settings.measurement)["config"]["poi"]
        signals = _signals(workspace, poi)
        if not signals:
            # It adds nothing: its parameter of interest has no effect.
            patch = replace(patch, operations=[*operations, _without_signal(workspace, poi)])
        self.alive = any(_has_yields(sample) for sample in signals)
        with background.lock:
            self.batch: Lowered = engine.lower_one(
                patch, "Use another back end, such as spey.get_backend('pyhf')."
            )
        self.spec = apply_sharing(background.workspace, patch)
        self.order = Order.of(self.spec, self.batch)
        self.poi = self.batch.layout.poi
        self._data_sets: Recent[Any, DataSet] = Recent(_DATA_SETS)
        self._asimov_sets: Recent[Any, AsimovSet] = Recent(_DATA_SETS)

    @property
    def lock(self) -> threading.RLock:
        """The lock that is held during fits."""
        return self.background.lock

    @cached_property
    def _evaluator(self) -> BatchLikelihood:
        engine = self.background.engine
        return BatchLikelihood(engine.compiled(self.batch.layout), self.batch)

    @cached_property
    def nominal(self) -> FloatArray:
        """Yields of the background, without signal and before any fit, ``(B,)``.

        Like spey's pyhf back end: the sum of the samples of the background-only workspace.
        """
        totals = {
            channel["name"]: np.sum([sample["data"] for sample in channel["samples"]], axis=0)
            for channel in self.background.workspace["channels"]
        }
        missing = [name for name, _ in self.batch.layout.channels if name not in totals]
        if missing:
            raise PalletError(
                f"The background-only workspace has no channel {missing[0]!r}, which the patch "
                "adds: nothing is expected there a priori.",
                remedy="Add the channel to the background-only workspace.",
            )
        counts = [totals[name] for name, _ in self.batch.layout.channels]
        joined = np.concatenate([np.zeros(0), *counts])
        return np.asarray(np.maximum(joined, 0.0)[self.batch.layout.bin_order])

    @cached_property
    def least_strength(self) -> float:
        """Smallest signal strength that keeps all nominal yields at zero or above."""
        poi = str(self.batch.names[0][self.poi])
        signal: dict[str, Any] = {}
        for channel in self.spec["channels"]:
            samples = [sample for sample in channel["samples"] if _carries(sample, poi)]
            if samples:
                total = np.sum([sample["data"] for sample in samples], axis=0)
                rest = sum(
                    (
                        np.asarray(sample["data"], dtype=float)
                        for sample in channel["samples"]
                        if not _carries(sample, poi)
                    ),
                    np.zeros(len(total)),
                )
                signal[channel["name"]] = total, rest
        ratios = [
            np.min(rest[total > 0] / total[total > 0])
            for total, rest in signal.values()
            if np.any(total > 0)
        ]
        return -float(max(min(ratios), 0.0)) if ratios else -np.inf

    # ------------------------------------------------------------------ values

    def constant(self, main: FloatArray, aux: FloatArray) -> float:
        """Compute the constants that the engine's NLL lacks to pyhf's."""
        return float(constants(self.batch, main[None], aux[None])[0])

    def value(self, point: FloatArray, main: FloatArray, aux: FloatArray) -> float:
        """Compute the NLL at a point."""
        fits = Fits(main[None], aux[None], None, np.arange(1))
        with self.lock:
            value = self._evaluator.values(fits, point[None], np.arange(1))[0]
        return float(value) + self.constant(main, aux)

    def derivatives(
        self, point: FloatArray, main: FloatArray, aux: FloatArray
    ) -> tuple[float, FloatArray, FloatArray]:
        """Compute the NLL, its gradient ``(K,)`` and its Hessian ``(K, K)`` at a point."""
        fits = Fits(main[None], aux[None], None, np.arange(1))
        evaluator = self._evaluator
        compiled = evaluator.compiled
        with self.lock, np.errstate(all="ignore"):
            ((_, lane, at),) = evaluator.lanes_at(fits, point[None], np.arange(1))
            all_of = compiled.evaluate(compiled.shared, lane, at, None)
            get = compiled.arrays.get
            value = float(get(all_of.value)[0]) + self.constant(main, aux)
            return value, np.array(get(all_of.gradient)[0]), np.array(get(all_of.hessian)[0])

    def curvature(self, point: FloatArray, main: FloatArray, aux: FloatArray) -> FloatArray:
        """Compute the Hessian of the NLL among the parameters that are free, ``(K, K)``.

        The others, and those without any effect, are given a variance of one and no correlation,
        so that the inverse exists.
        """
        point = point.copy()
        if abs(point[self.poi]) < _OFF_ZERO:
            # At zero it is a small difference of terms of the order of one over mu.
            point[self.poi] = _OFF_ZERO
        _, _, hessian = self.derivatives(point, main, aux)
        out = self.batch.fixed[0] | ~np.any(hessian != 0, axis=1)
        return np.where(out[:, None] | out, np.eye(len(out)), hessian)

    def expected(self, point: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Compute the main and auxiliary data that a point expects."""
        fits = Fits(self.batch.data, self.batch.aux, None, np.arange(1))
        with self.lock:
            main, aux = self._evaluator.asimov_data(fits, point[None])
        return main[0], aux[0]

    # ------------------------------------------------------------------ fits

    def conditions(
        self,
        main: FloatArray,
        aux: FloatArray,
        poi_bounds: tuple[float, float],
        *,
        bounds: tuple[FloatArray, FloatArray] | None = None,
        fixed: Mapping[int, float] | None = None,
    ) -> Conditions:
        """Gather the conditions of a fit.

        Parameters
        ----------
        main, aux
            Data of the batch.
        poi_bounds
            Bounds of the parameter of interest.
        bounds
            Bounds of all columns instead of those of the measurement.
        fixed
            Columns that are fixed, and their values.
        """
        lower, upper = self.batch.lower[0].copy(), self.batch.upper[0].copy()
        lower[self.poi], upper[self.poi] = poi_bounds
        if bounds is not None:
            lower, upper = bounds
        return Conditions(main, aux, lower, upper, dict(fixed or {}))

    def data_set(self, conditions: Conditions) -> DataSet:
        """Give the fits under some conditions."""
        with self.lock:
            return self._data_sets.get(conditions.key, lambda: DataSet(self, conditions))

    def asimov(self, conditions: Conditions, mu: float) -> AsimovSet:
        """Give the fits of the Asimov data that a fit at a signal strength expects."""
        key = mu, conditions.key
        with self.lock:
            return self._asimov_sets.get(
                key, lambda: AsimovSet(self, self.data_set(conditions), mu)
            )


class DataSet:
    """Fits of one likelihood to one data set, each made when asked.

    Parameters
    ----------
    likelihood
        Likelihood.
    conditions
        Data, bounds and fixed parameters.
    """

    def __init__(self, likelihood: SignalLikelihood, conditions: Conditions) -> None:
        main = np.where(conditions.main < _LEAST_COUNT, 0.0, conditions.main)
        conditions = replace(conditions, main=main)
        self.likelihood, self.conditions = likelihood, conditions
        batch = likelihood.batch
        fixed, init = batch.fixed.copy(), batch.init.copy()
        for column, value in conditions.fixed.items():
            fixed[0, column], init[0, column] = True, value
        within = np.clip(init, conditions.lower, conditions.upper)
        init = np.where(fixed, init, within)
        changed = replace(
            batch,
            data=conditions.main[None],
            aux=conditions.aux[None],
            lower=conditions.lower[None],
            upper=conditions.upper[None],
            fixed=fixed,
            init=init,
        )
        engine = likelihood.background.engine
        self.fits: BatchFits = engine.batch_fits(changed)
        self.constant = likelihood.constant(conditions.main, conditions.aux)
        self._at: Recent[float, Fits] = Recent(_STRENGTHS)
        self._searched: dict[float, Fits] = {}

    @cached_property
    def _nested(self) -> tuple[Fits, Fits]:
        """The background-only and the free fit."""
        tests, background = self.fits, self._known_background()
        if background is None:
            background, free = tests.without_and_with_signal(tests.rows)
        else:
            free = self._new(None)
            tests.fitter.fit(free, {SUGGESTED: tests.batch.init, "background": background.point})
            tests.search.lower("free", free, background)
            tests.search.exchange(background, "free", free)
            tests.nest(free, background)
        for fits in (background, free):
            tests.fitter.sharpen(fits, tests.rows, SHARP)
        self._remember(background)
        return background, free

    def _known_background(self) -> Fits | None:
        """Continue from the background-only fit of another signal, where it is the same fit."""
        tests, minima = self.fits, self.likelihood.background.minima
        minimum = None if self._shared_key is None else minima.present(self._shared_key)
        if minimum is None:
            return None
        nll, values = minimum
        batch, fits = tests.batch, self._new(0.0)
        point = [
            values.get(name or "", init)
            for name, init in zip(batch.names[0], batch.init[0], strict=True)
        ]
        tests.fitter.fit(fits, {SUGGESTED: batch.init, "other signal": np.array([point])})
        same = bool(fits.converged[0]) and abs(fits.value[0] - nll) <= SAME
        return fits if same and not fits.multimodal()[0] else None

    def _remember(self, background: Fits) -> None:
        """Keep the background-only fit for other signals, where it has one minimum."""
        if self._shared_key is None or not background.converged[0] or background.multimodal()[0]:
            return
        names = self.fits.batch.names[0]
        values = dict(zip(names, background.point[0].tolist(), strict=True))
        minimum = float(background.value[0]), {name: v for name, v in values.items() if name}
        self.likelihood.background.minima.get(self._shared_key, lambda: minimum)

    @cached_property
    def _shared_key(self) -> bytes | None:
        """Digest of all that the background-only fit depends on; None if that has signal in it."""
        batch, tests = self.fits.batch, self.fits
        if not tests.likelihood.only_signal:
            return None
        columns = {
            name: column
            for column, name in enumerate(batch.names[0])
            if name is not None and column != tests.poi
        }
        names = sorted(columns)
        order = [columns[name] for name in names]
        digest = hashlib.sha256(
            json.dumps([batch.layout.channels, batch.layout.sample_names, names]).encode()
        )
        digest.update(batch.data.tobytes())
        for setting in SETTINGS:
            digest.update(getattr(batch, setting)[0, order].tobytes())
        return digest.digest()

    def free(self) -> Minimum:
        """Fit with the signal strength free."""
        with self.likelihood.lock:
            if not self.likelihood.alive:
                return self.at(float(self._nested[1].point[0, self.fits.poi]))
            return self._minimum(self._nested[1])

    def at(self, mu: float) -> Minimum:
        """Fit with the signal strength fixed."""
        with self.likelihood.lock:
            if self.likelihood.alive:
                return self._minimum(self.fits_at(mu))
            # Without signal it is the same fit for every signal strength.
            minimum = self._minimum(self.fits_at(0.0))
            minimum.point[self.fits.poi] = mu
            return minimum

    def mu_error(self) -> float:
        """Compute the standard deviation of the free fit's signal strength; NaN without one."""
        with self.likelihood.lock:
            return float(self.fits.mu_errors(self._nested[1])[0])

    def fits_at(self, mu: float) -> Fits:
        """Fit with the signal strength fixed; the lock is held."""
        if mu == 0.0:
            return self._nested[0]
        return self._at.get(mu, lambda: self._fit(mu))

    def _fit(self, mu: float) -> Fits:
        tests, (background, free) = self.fits, self._nested
        fixed = self._new(mu)
        if self._brief(fixed, mu):
            return fixed
        starts = {SUGGESTED: tests.batch.init, "free": free.point, **self._near(mu)}
        tests.fitter.fit(fixed, {**starts, **tests.fitter.displaced_starts(2, 1)})
        tests.search.lower("fixed", fixed, background, free)
        tests.search.exchange(fixed, "background", background)
        self._reach(fixed, mu)
        conditions = self.conditions
        if conditions.lower[tests.poi] <= mu <= conditions.upper[tests.poi]:
            tests.nest(free, fixed)
        for fits in (free, fixed):
            tests.fitter.sharpen(fits, tests.rows, SHARP)
        self._searched[mu] = fixed
        return fixed

    def _new(self, mu: float | None) -> Fits:
        conditions = self.conditions
        return Fits(conditions.main[None], conditions.aux[None], mu, self.fits.rows)

    def _thorough(self) -> dict[float, Fits]:
        """Give the fits by signal strength whose lower minima were searched for."""
        if "_nested" not in self.__dict__:  # it is being made
            return dict(self._searched)
        background, free = self._nested
        return {0.0: background, float(free.point[0, self.fits.poi]): free, **self._searched}

    def _brief(self, fixed: Fits, mu: float) -> bool:
        """Fit without a search where that is enough.

        Searches at a lower and at a higher signal strength saw one minimum only, and starts at
        the nearest fits on both sides, and between these, end at the same one here.
        """
        searched = self._thorough()
        sides = _around(searched, mu)
        if sides is None or any(
            searched[side].multimodal()[0] or not searched[side].converged[0] for side in sides
        ):
            return False
        fitted = {**dict(self._at.pairs()), **searched}
        below, above = _around(fitted, mu) or sides
        low, high, part = fitted[below].point, fitted[above].point, (mu - below) / (above - below)
        starts = {"below": low, "above": high, "between": low + part * (high - low)}
        tests = self.fits
        tests.fitter.fit(fixed, starts)
        if fixed.multimodal()[0] or not fixed.converged[0] or fixed.agreed()[0] < len(starts):
            return False
        tests.fitter.sharpen(fixed, tests.rows, SHARP)
        return bool(fixed.converged[0])

    def _reach(self, fixed: Fits, mu: float) -> None:
        """Fit where all starts are impossible, on the way from a signal strength that is not.

        A negative signal needs parameters that make room for it.
        """
        if np.isfinite(fixed.value[0]):
            return
        fitted = {**dict(self._at.pairs()), **self._thorough()}
        possible = {other: fits for other, fits in fitted.items() if np.isfinite(fits.value[0])}
        if not possible:
            return
        at = min(possible, key=lambda other: abs(other - mu))
        point, step, tests = possible[at].point, mu - at, self.fits
        for _ in range(_STEPS):
            following = mu if abs(step) >= abs(mu - at) else at + step
            fits = self._new(following)
            tests.fitter.fit(fits, {"followed": point})
            if not np.isfinite(fits.value[0]):
                step /= 2
                continue
            at, point, step = following, fits.point, 2 * step
            if at == mu:
                tests.fitter.fit(fixed, {"followed": point})
                tests.search.explore(fixed, tests.rows)
                return

    def _near(self, mu: float) -> dict[str, FloatArray]:
        """Start from the fit at the nearest signal strength."""
        distances = {
            abs(strength - mu): fits
            for strength, fits in self._at.pairs()
            if np.isfinite(fits.value[0])
        }
        return {"near": distances[min(distances)].point} if distances else {}

    def fitted(self, mu: float) -> Fits | None:
        """Give the fit at a signal strength if it was made."""
        return self._at.present(mu)

    def _minimum(self, fits: Fits) -> Minimum:
        tests = self.fits
        if not np.isfinite(fits.value[0]):
            return Minimum(IMPOSSIBLE, fits.point[0].copy(), False, "no parameters are possible")
        if not fits.converged[0]:
            tests.explain(fits, tests.rows)
        (record,) = fit_records(tests.batch, fits, brief=True)
        nll = float(fits.value[0]) + self.constant
        return Minimum(nll, fits.point[0].copy(), record.trusted, record.reason)


class AsimovSet(DataSet):
    """Fits of one likelihood to Asimov data.

    Parameters
    ----------
    likelihood
        Likelihood.
    data
        Fits of the data that the Asimov data come from.
    mu
        Signal strength of the fit that generates them.
    """

    def __init__(self, likelihood: SignalLikelihood, data: DataSet, mu: float) -> None:
        self.data, self.mu = data, mu
        fits = data.fits_at(mu)
        if not np.isfinite(fits.value[0]):
            raise PalletError(
                f"No parameters are possible at a signal strength of {mu:g}, so that there are no "
                "Asimov data: a bin where nothing is expected has events.",
                remedy="Give the bin a small expected yield, or leave it out.",
            )
        self.source = fits.point.copy()
        main, aux = likelihood.expected(self.source[0])
        super().__init__(likelihood, replace(data.conditions, main=main, aux=aux))

    @cached_property
    def _nested(self) -> tuple[Fits, Fits]:
        """The free fit is known: it is the point that generated the data."""
        rows = self.fits.rows
        free = self._new(None)
        self.fits.fitter.fit(free, {"source": self.source})
        self.fits.fitter.sharpen(free, rows, SHARP)
        same = self.mu == 0.0 == float(free.point[0, self.fits.poi])
        return (free if same else self._search(0.0)), free

    def _fit(self, mu: float) -> Fits:
        fixed = self._new(mu)
        return fixed if self._brief(fixed, mu) else self._search(mu)

    def _search(self, mu: float) -> Fits:
        tests, fixed = self.fits, self._new(mu)
        starts = {SUGGESTED: tests.batch.init, "source": self.source, **self._near(mu)}
        observed = self.data.fitted(mu)
        relatives = [self.data.fits_at(0.0), *([] if observed is None else [observed])]
        if observed is not None and np.all(np.isfinite(observed.value)):
            starts["fixed"] = observed.point
        tests.fitter.fit(fixed, starts)
        tests.search.lower("asimov", fixed, *relatives)
        self._reach(fixed, mu)
        tests.fitter.sharpen(fixed, tests.rows, SHARP)
        self._searched[mu] = fixed
        return fixed


def _around(strengths: Iterable[float], mu: float) -> tuple[float, float] | None:
    """Give the nearest signal strengths below and above one; None if a side has none."""
    below = [strength for strength in strengths if strength < mu]
    above = [strength for strength in strengths if strength > mu]
    return (max(below), min(above)) if below and above else None


def _carries(sample: Spec, poi: str) -> bool:
    modifiers = sample.get("modifiers", ())
    return any(entry["name"] == poi and entry["type"] == NORM for entry in modifiers)


def _has_yields(sample: Spec) -> bool:
    shapes = [entry["data"] for entry in sample["modifiers"] if entry["type"] == "histosys"]
    sides = [shape[side] for shape in shapes for side in ("hi_data", "lo_data")]
    return any(np.any(np.asarray(table, dtype=float) != 0) for table in (sample["data"], *sides))


def _signals(workspace: Spec, poi: str) -> list[Spec]:
    """List the samples with the parameter of interest."""
    samples = [sample for channel in workspace["channels"] for sample in channel["samples"]]
    return [sample for sample in samples if _carries(sample, poi)]


def _without_signal(workspace: Spec, poi: str) -> dict[str, Any]:
    """Write an operation that adds a sample without events to the first channel."""
    bins = len(workspace["channels"][0]["samples"][0]["data"])
    modifiers = [{"name": poi, "type": NORM, "data": None}]
    sample = {"name": _NO_SIGNAL, "data": [0.0] * bins, "modifiers": modifiers}
    return {"op": "add", "path": "/channels/0/samples/-", "value": sample}
