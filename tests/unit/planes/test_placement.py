"""Numbers beside points cover neither each other nor what is drawn."""

import numpy as np

from palletfit.planes.placement import Obstacles, put_beside

FRAME = np.array([[0.0, 0.0], [200.0, 100.0]])
SIZE = np.array([12.0, 6.0])


def placed(points, *, curves=(), areas=()):
    points = np.asarray(points, dtype=float)
    sizes = np.tile(SIZE, (len(points), 1))
    return put_beside(points, sizes, Obstacles(FRAME, curves, areas), 2.0)


def test_a_number_with_space_is_above_its_point():
    np.testing.assert_allclose(placed([[50, 50]]), [[50, 55]])
    assert placed(np.empty((0, 2))).shape == (0, 2)


def test_numbers_stay_inside_the_axes():
    centres = placed([[100, 0], [100, 100], [0, 50], [200, 50], [0, 0]])
    assert (centres - SIZE / 2 >= FRAME[0] - 1e-9).all()
    assert (centres + SIZE / 2 <= FRAME[1] + 1e-9).all()


def test_numbers_keep_clear_of_curves_and_areas():
    (centre,) = placed([[50, 50]], curves=[np.array([[0.0, 55.0], [200.0, 55.0]])])
    assert centre[1] + SIZE[1] / 2 < 55
    area = np.array([[0.0, 40.0], [51.0, 40.0], [51.0, 100.0], [0.0, 100.0]])
    (centre,) = placed([[50, 50]], areas=[area])
    assert centre[0] - SIZE[0] / 2 > 51


def test_numbers_keep_clear_of_each_other_and_of_points():
    points = np.array([[50.0, 50.0], [53.0, 50.0], [50.0, 56.0], [56.0, 56.0]])
    centres = placed(points)
    for index, centre in enumerate(centres):
        distance = np.abs(np.delete(centres, index, axis=0) - centre)
        assert (distance >= SIZE - 1e-9).any(axis=1).all()
        assert (np.abs(points - centre) >= SIZE / 2).any(axis=1).all()
    np.testing.assert_array_equal(placed(points), centres)
