"""Central differences of hypothesis tests by yields: every fit is made again at each step."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from palletfit.config import FitSettings
from palletfit.engine.asymptotics import p_values, profile_statistic
from palletfit.engine.batch import BatchFits
from palletfit.engine.derivative_records import Derivatives, HypotestSlopes
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.fit_records import fit_records
from palletfit.engine.fits import Fits
from palletfit.engine.records import HypotestResult
from palletfit.pallet.patches import Patch, apply

#: The edm of these fits: Asimov data depend on a fit to first order.
_SHARPER = 1e-20
FITS = ("background", "free", "fixed", "asimov_fixed")


class Differences:
    """A patch, and the same with other yields, whose fits begin at the minima of the first.

    These are the nearest minima of the patch, which need no search: derivatives are of any minimum.
    """

    def __init__(self, workspace: Any, patch: Patch, **settings: Any) -> None:
        self.engine = BatchedEngine(workspace, FitSettings(minimum="nearest", **settings))
        self.patch, self.spec = patch, apply(workspace, patch)
        batch = self.engine.lower_one(patch, testable=True)
        tests = self.engine.batch_fits(batch)
        fits = tests.four_fits()
        _sharpen(tests, fits)
        ((_, self.result),) = tests.results(fits, tests.rows, 0.0, brief=True)
        self.ends = {
            name: dict(zip(batch.names[0], kind.point[0], strict=True))
            for name, kind in fits.items()
        }

    @property
    def derivatives(self) -> Derivatives:
        assert isinstance(self.result, HypotestResult)
        assert self.result.derivatives is not None
        return self.result.derivatives

    def values(self, patches: Sequence[Patch]) -> np.ndarray:
        """Numbers of :func:`numbers` of each patch, ``(n, 13)``."""
        batches, refused = self.engine.lower(patches)
        assert not refused, refused
        rows: dict[str, np.ndarray] = {}
        for batch, members in batches:
            tests = self.engine.batch_fits(batch)
            of_batch = self._of_batch(tests)
            rows |= {patch.name: of_batch[row] for row, patch in enumerate(members)}
        return np.array([rows[patch.name] for patch in patches])

    def _of_batch(self, tests: BatchFits) -> list[np.ndarray]:
        batch, settings, poi = tests.batch, tests.settings, tests.poi
        discovery = settings.test_statistic == "q0"
        by_name = {"background": 0.0, "free": None, "fixed": tests.mu}
        fits: dict[str, Fits] = {}
        for name, mu in by_name.items():
            fits[name] = Fits(batch.data, batch.aux, mu, tests.rows)
            self._fit(tests, name, fits[name])
        source = fits["fixed" if discovery else "background"]
        data, aux = tests.likelihood.asimov_data(source, source.point)
        fits["asimov_fixed"] = Fits(data, aux, 0.0 if discovery else tests.mu, tests.rows)
        self._fit(tests, "asimov_fixed", fits["asimov_fixed"])
        assert all(kind.converged.all() for kind in fits.values())
        nlls = {
            name: [record.twice_nll for record in fit_records(batch, kind)]
            for name, kind in fits.items()
        }
        tested = "background" if discovery else "fixed"
        rows = []
        for row in tests.rows:
            mu_hat = float(fits["free"].point[row, poi])
            values = [2 * float(fits[name].value[row]) for name in (tested, "free", "background")]
            q = profile_statistic(settings.test_statistic, tests.mu, mu_hat, *values)
            q_asimov = max(2 * float(fits["asimov_fixed"].value[row]), 0.0)
            result = p_values(settings.test_statistic, q, q_asimov)
            of_fits = [nlls[name][row] for name in FITS]
            head = [result.CLs_obs, *result.CLs_exp, result.q, result.q_asimov, mu_hat]
            rows.append(np.array([*head, *of_fits]))
        return rows

    def _fit(self, tests: BatchFits, name: str, fits: Fits) -> None:
        ends = self.ends[name]
        start = np.array(tests.batch.init)
        for row, names in enumerate(tests.batch.names):
            start[row] = [ends.get(n, init) for n, init in zip(names, start[row], strict=True)]
        tests.fitter.fit(fits, {"near": start})
        _sharpen(tests, {name: fits})

    def by_yields(
        self, channel: str, sample: str, *, relative: bool = False, size: float = 0.004
    ) -> np.ndarray:
        """Differentiate by the yields of a sample, ``(13, N)``.

        Central differences with three steps, to the sixth order.
        """
        index = [entry["name"] for entry in self.spec["channels"]].index(channel)
        samples = self.spec["channels"][index]["samples"]
        place = [entry["name"] for entry in samples].index(sample)
        content = samples[place]
        path = f"/channels/{index}/samples/{place}"
        steps = np.array(
            [
                [
                    size * max(abs(events), 0.1) / part * sign
                    for part in (1, 2, 4)
                    for sign in (1, -1)
                ]
                for events in content["data"]
            ]
        )
        patches = [
            self._replaced(path, _changed(content, number, change, relative=relative))
            for number, of_bin in enumerate(steps)
            for change in of_bin
        ]
        names = [f"{count}" for count in range(len(patches))]
        named = [
            Patch(name, (), operations) for name, operations in zip(names, patches, strict=True)
        ]
        values = self.values(named).reshape(*steps.shape, -1)
        slopes = (values[:, ::2] - values[:, 1::2]) / (2 * steps[:, ::2, None])
        first = (4 * slopes[:, 1:] - slopes[:, :-1]) / 3
        return ((16 * first[:, 1] - first[:, 0]) / 15).T

    def _replaced(self, path: str, sample: Any) -> list[Any]:
        """Give the operations of the patch with another sample."""
        return [*self.patch.operations, {"op": "replace", "path": path, "value": sample}]


def _sharpen(tests: BatchFits, fits: Mapping[str, Fits]) -> None:
    for kind in fits.values():
        tests.fitter.sharpen(kind, tests.rows, _SHARPER)


def _changed(sample: Any, number: int, change: float, *, relative: bool) -> Any:
    """Change one yield of a sample, and in proportion what its modifiers have there."""
    changed = copy.deepcopy(sample)
    old = changed["data"][number]
    changed["data"][number] = old + change
    factor = (old + change) / old if relative else 1.0
    for modifier in changed["modifiers"]:
        data = modifier["data"]
        if modifier["type"] in ("staterror", "shapesys"):
            data[number] *= factor
        elif modifier["type"] == "histosys":
            data["hi_data"][number] *= factor
            data["lo_data"][number] *= factor
    return changed


def numbers(slopes: HypotestSlopes) -> np.ndarray:
    """Give derivatives in the order of :meth:`Differences.values`, ``(13, N)``."""
    head = [slopes.CLs_obs, *slopes.CLs_exp, slopes.q, slopes.q_asimov, slopes.mu_hat]
    return np.array([*head, *(slopes.twice_nll[name] for name in FITS)])
