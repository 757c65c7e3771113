"""Published contours: reading, order along the curve, gaps, errors."""

from pathlib import Path

import numpy as np
import pytest

from palletfit.errors import PalletError
from palletfit.planes.published import read_curve

PUBLISHED = Path(__file__).parents[4] / "shared" / "published"

TABLE = """\
#: name: A limit
#: SQRT(S) [TeV],13
M(A) [GeV],M(B) [GeV]
{rows}

"""


def write(path: Path, points, text: str = TABLE) -> Path:
    path.write_text(text.format(rows="\n".join(f"{x},{y}" for x, y in points)))
    return path


def arc(count: int = 80):
    angle = np.linspace(0, np.pi, count)
    return np.column_stack([500 + 300 * np.cos(angle), 100 * np.sin(angle)])


def length(points) -> float:
    return float(np.hypot(*np.diff(points, axis=0).T).sum())


def test_an_ordered_curve_is_read_as_it_is(tmp_path):
    path = write(tmp_path / "curve.csv", arc())
    (curve,) = read_curve(path, 0, 1)
    np.testing.assert_allclose(curve, arc())
    (swapped,) = read_curve(path, "M(B) [GeV]", "M(A) [GeV]")
    np.testing.assert_allclose(swapped, arc()[:, ::-1])


def test_points_out_of_order_are_chained(tmp_path):
    shuffled = np.random.default_rng(1).permutation(arc())
    (curve,) = read_curve(write(tmp_path / "curve.csv", shuffled), 0, 1)
    assert len(curve) == len(arc())
    assert length(curve) == pytest.approx(length(arc()))


def test_gaps_split_a_curve_and_its_cut_ends_are_joined(tmp_path):
    closed = np.concatenate([arc()[40:], arc()[:41]])  # starts in the middle, ends where it starts
    (curve,) = read_curve(write(tmp_path / "joined.csv", closed), 0, 1)
    np.testing.assert_allclose(curve, arc())
    apart = np.concatenate([arc(), arc()[:50] + np.array([2000, 0])])
    first, second = read_curve(write(tmp_path / "two.csv", apart), 0, 1)
    assert (len(first), len(second)) == (80, 50)


def test_a_later_block_is_found_by_its_header_and_empty_cells_are_left_out(tmp_path):
    path = tmp_path / "blocks.csv"
    path.write_text('#: x\n"M, in GeV",UL [pb]\n1,0.1\n2,0.2\n\n#: y\nA,B\n1,2\n-,3\n4,5\n')
    (curve,) = read_curve(path, "A", "B")
    np.testing.assert_array_equal(curve, [[1, 2], [4, 5]])
    (first,) = read_curve(path, "M, in GeV", "UL [pb]")
    np.testing.assert_array_equal(first, [[1, 0.1], [2, 0.2]])


@pytest.mark.parametrize(
    ("text", "columns", "words"),
    [
        ("A,B\n1,2\n3,4\n", ("A", "C"), "A, B"),
        ("A,B\n1,2\n3,4\n", (0, 2), "A, B"),
        ("", (0, 1), "empty"),
        ("A,B\n1,2\n", (0, 1), "fewer than two"),
        ("A,B\n1,2\n3,many\n", (0, 1), "Line 3"),
    ],
)
def test_errors_name_the_file_and_what_to_do(tmp_path, text, columns, words):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(PalletError, match=words) as caught:
        read_curve(path, *columns)
    assert caught.value.file == str(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PalletError, match="No such file"):
        read_curve(tmp_path / "none.csv", 0, 1)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published tables are not here")
@pytest.mark.parametrize(
    ("name", "count", "start", "end"),
    [
        ("1Lbb/observed", 134, (744.1124, 0), (132.7487, 0)),
        ("1Lbb/expected", 162, (840.7016, 0), (130.7691, 0)),
        ("staus/observed", 126, (392.67, 0), (120.26, 0)),
        # These two leave their plot's range, so that the table jumps along the plot's border.
        ("sbottom/m60_observed", 234, (195, 195.0146), (1129.66, 195.0146)),
        ("sbottom/dm130_observed", 260, (350, 368.3947), (480.5859, 130.0035)),
    ],
)
def test_published_curves_are_one_line(name, count, start, end):
    (curve,) = read_curve(PUBLISHED / f"{name}.csv", 0, 1)
    assert len(curve) == count
    np.testing.assert_allclose(curve[[0, -1]], [start, end])
    assert np.hypot(*np.diff(curve, axis=0).T).max() < 25
