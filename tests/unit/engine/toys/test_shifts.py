"""Shifts between minima: found in one toy, tried in others."""

from __future__ import annotations

import numpy as np
import pytest

from palletfit.engine.toys import ensembles
from palletfit.engine.toys.shifts import Shifts

from .test_descents import two_valleys


def test_alike_shifts_are_one_kind_and_may_be_taken_both_ways() -> None:
    shifts = Shifts(np.array([1.0, 2.0, 1.0]), np.array([0, 1]))
    before = np.zeros((4, 3))
    # Three along one direction, and one that is no other minimum.
    shifts.add(before, np.array([[1.0, 0, 0], [1.2, 0.2, 0], [-1.1, 0, 0], [0.1, 0, 5.0]]))
    shifts.add(before[:1], np.array([[0.0, 4.0, 0.0]]))
    kinds = shifts.kinds()
    assert kinds.shape == (4, 3)
    np.testing.assert_allclose(np.abs(kinds[:2, 0]), 1.1)
    assert sorted(kinds[2:, 1]) == [-4.0, 4.0]
    assert not kinds[:, 2].any()


def test_without_two_minima_there_are_no_shifts() -> None:
    shifts = Shifts(np.ones(3), np.array([0, 2]))
    assert shifts.kinds().shape == (0, 3)
    shifts.add(np.zeros((1, 3)), np.full((1, 3), 0.1))
    assert shifts.kinds().shape == (0, 3)


@pytest.mark.parametrize(("descents", "shifted"), [(2, 4), (2, 0), (0, 4)])
def test_a_toy_is_fitted_where_another_one_has_its_minimum(
    descents: int, shifted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensemble, sets, start, column = two_valleys()
    ensemble.descents = descents
    sets = sets.take(np.zeros(2, dtype=int))
    # The second start of the first toy is in the lower valley; all others are in the higher one.
    first, second = np.repeat(start, 2, axis=0), np.repeat(start, 2, axis=0)
    second[0, column] = -1.3
    monkeypatch.setattr(ensemble, "_starts", lambda *_: [first, second, first])
    monkeypatch.setattr(ensembles, "_PROBED", (0, 0, 0))
    monkeypatch.setattr(ensembles, "_SHIFTED", shifted)
    shape = ensemble.pairs(sets, start[0], 0.0).fixed.point[:, column]
    assert shape[0] < -1.0
    # Only together with descents.
    assert (shape[1] < -1.0) == bool(descents and shifted)
