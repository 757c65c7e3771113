"""The search for lower minima: on likelihoods that it was not made with, whatever the batch."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from palletfit.config import DownloadSettings, FitSettings
from palletfit.engine import search
from palletfit.engine.batch import BatchFits
from palletfit.engine.choose import make_engine
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.fits import Fits
from palletfit.engine.records import HypotestResult
from palletfit.pallet.archive import unpack
from palletfit.pallet.files import read_pallet_json
from palletfit.pallet.patches import Patch
from palletfit.pallet.patchset import parse_patchset

from ...likelihoods import read_likelihood
from .. import models

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
FITS = ("background", "free", "fixed", "asimov_fixed")
#: Fits with mu fixed of ATLAS-SUSY-2018-06, two of which a deep search missed.
LOWER_THAN_KNOWN = {
    "ERJR_150p0_1p0": 14.36793,
    "ERJR_200p0_50p0": 10.25953,
    "ERJR_200p0_1p0": 10.32807,
}
#: A tiny sample that an uncertainty of a factor of ten, and a weakly constrained one, can blow up.
TINY = [
    {"name": "big", "type": "normsys", "data": {"hi": 10.4, "lo": 0.01}},
    {"name": "up", "type": "histosys", "data": {"hi_data": [0.03], "lo_data": [0.0]}},
    {"name": "down", "type": "histosys", "data": {"hi_data": [0.0], "lo_data": [0.06]}},
    {"name": "weak", "type": "shapesys", "data": [0.125]},
]


def case(shared: Path, name: str) -> tuple[Any, list[Patch]]:
    """Workspace and patches of a reported case."""
    folder = shared / "cases" / name
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    workspace = read_pallet_json(folder / "BkgOnly.json")
    spec = json.loads((folder / "patchset.json").read_text())
    patches = [
        Patch(entry["metadata"]["name"], tuple(entry["metadata"]["values"]), entry["patch"])
        for entry in spec["patches"]
    ]
    return workspace, patches


def results_of(workspace: Any, patches: list[Patch], **settings: Any) -> dict[str, HypotestResult]:
    results = {}
    engine = make_engine(workspace, FitSettings(**settings))
    for patch, result in engine.hypotests(patches, brief=True):
        assert isinstance(result, HypotestResult), str(result)
        results[patch.name] = result
    return results


@pytest.mark.parametrize(
    ("number", "patch", "lowest"),
    [
        pytest.param(3017, 0, {"free": 105.5688}, marks=pytest.mark.study),
        (3048, 1, {"background": 328.5831, "asimov_fixed": 72.1784}),
    ],
)
def test_minima_that_need_all_parameters_elsewhere_are_reached(
    number: int, patch: int, lowest: dict[str, float], load: Callable[[str], ModuleType]
) -> None:
    """The search ended up to 65 above them when it took a few steps from random points only."""
    workspace, operations = load("random_likelihoods").random_likelihood(number)
    patches = [Patch("random", (), tuple(operations[patch]))]
    fits = results_of(workspace, patches)["random"].fits
    for name, value in lowest.items():
        assert fits[name].twice_nll < value + 0.01, name


@pytest.mark.parametrize(
    ("name", "patch", "statistic", "fit", "lowest", "cls"),
    [
        ("24-fixed-fit-misses-minimum", "p1", "q0", "fixed", 196.2589, None),
        pytest.param(
            *("29-background-fit-misses-minimum", "p0", "qtilde", "background", 38.47257, None),
            marks=pytest.mark.study,
        ),
        pytest.param(
            *("random-13", "p0", "qtilde", "free", 15.58597, 0.98845), marks=pytest.mark.study
        ),
        pytest.param(
            *("random-187", "p1", "qtilde", "free", None, 0.8911), marks=pytest.mark.study
        ),
        # Rates below zero where nothing is observed count as zero.
        ("27b-negative-rate-mu", "p1", "qtilde", "free", None, 0.6175),
    ],
)
def test_the_reported_fits_end_at_the_lowest_minimum(
    shared: Path,
    name: str,
    patch: str,
    statistic: str,
    fit: str,
    lowest: float | None,
    cls: float | None,
) -> None:
    workspace, patches = case(shared, name)
    chosen = [entry for entry in patches if entry.name == patch]
    result = results_of(workspace, chosen, test_statistic=statistic)[patch]
    assert result.status == "ok"
    assert result.engine == "batched"
    if lowest is not None:
        assert result.fits[fit].twice_nll == pytest.approx(lowest, abs=1e-4)
    if cls is not None:
        assert result.p_values.CLs_obs == pytest.approx(cls, abs=1e-4)


def test_a_minimum_far_away_is_counted_and_the_nearest_one_is_kept(shared: Path) -> None:
    workspace, patches = case(shared, "23-free-fit-misses-minimum")
    patches = [patch for patch in patches if patch.name == "p1"]
    lowest = results_of(workspace, patches)["p1"]
    nearest = results_of(workspace, patches, minimum="nearest")["p1"]
    assert (lowest.minimum, nearest.minimum) == ("lowest", "nearest")
    assert lowest.other is not None
    assert nearest.other is not None
    assert lowest.status == "ok"
    assert lowest.engine == "batched"
    assert lowest.fits["free"].twice_nll == pytest.approx(123.1292, abs=1e-4)
    assert lowest.p_values.CLs_obs == pytest.approx(0.8358, abs=1e-4)
    assert nearest.p_values.CLs_obs == pytest.approx(0.5961, abs=1e-4)
    assert lowest.other.p_values.CLs_obs == pytest.approx(nearest.p_values.CLs_obs, abs=1e-9)
    assert nearest.other.p_values.CLs_obs == pytest.approx(lowest.p_values.CLs_obs, abs=1e-9)
    assert lowest.other.fits["free"].above == pytest.approx(133.4048 - 123.1292, abs=1e-3)
    assert set(lowest.other.fits) == {"free"}


def test_the_lowest_minimum_counts_where_none_is_reached_from_the_suggested_values() -> None:
    """At the suggested mu of 5 the rate is below zero, and events are observed."""
    spec = models.workspace(
        {"SR": [models.sample("bkg", [50.0]), models.signal([-20.0])]},
        {"SR": [42.0]},
        [{"name": models.POI, "bounds": [[0.0, 10.0]], "inits": [5.0]}],
    )
    results = {
        minimum: results_of(spec, [Patch("all", (), ())], minimum=minimum)["all"]
        for minimum in ("lowest", "nearest")
    }
    assert results["nearest"].engine == "batched"
    assert results["nearest"].minimum == "lowest"
    assert results["nearest"].remarks[0].startswith("no minimum is reached from the suggested")
    assert results["nearest"].p_values == results["lowest"].p_values


@pytest.mark.parametrize("engine", ["batched", "reference"])
def test_a_rate_below_zero_in_an_empty_bin_counts_as_zero(engine: str) -> None:
    """pyhf's likelihood falls without end here: nothing is observed, and the rate may be -9."""
    shift = {"name": "shift", "type": "histosys", "data": {"hi_data": [12.0], "lo_data": [0.0]}}
    signal = models.signal([6.0], shift | {"data": {"hi_data": [12.0], "lo_data": [-12.0]}})
    spec = models.workspace(
        {"SR": [models.sample("bkg", [3.0]), signal]},
        {"SR": [0.0]},
        [{"name": models.POI, "bounds": [[-5.0, 10.0]], "inits": [1.0]}],
    )
    result = results_of(spec, [Patch("all", (), ())], engine=engine)["all"]
    # What is left is the constraint; the rounded corner lies a millionth below zero in NLL.
    assert result.fits["free"].twice_nll >= np.log(2 * np.pi) - 2.1e-6
    assert 0.0 < result.p_values.CLs_obs <= 1.0


def tiny_sample() -> models.Spec:
    """A tiny sample beside another one: much signal has room if it is far below zero."""
    signal = models.signal([45.0], models.MODIFIERS["normsys"])
    other = models.sample(
        "other", [52.0], {"name": "norm", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}}
    )
    return models.workspace(
        {"SR": [models.sample("tiny", [0.03], *TINY), other, signal]}, {"SR": [51.0]}
    )


def test_a_product_of_parameters_is_looked_at() -> None:
    """As in a published likelihood of ATLAS: 0.03 events, or tens below zero."""
    result = results_of(tiny_sample(), [Patch("all", (), ())])["all"]
    assert result.other is not None
    fixed = result.other.fits["fixed"]
    assert fixed.above is not None
    assert fixed.above > 1.0
    assert fixed.parameters["weak[0]"][0] > 5.0
    assert fixed.parameters["big"][0] > 1.0


@pytest.mark.parametrize("far", [True, False])
def test_a_product_goes_on_where_its_steps_were_too_few(
    far: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in large likelihoods, where points take few steps."""
    monkeypatch.setattr(search, "_WORK", 0)
    monkeypatch.setattr(search, "_STEPS", 2)
    ((batch, _),), _ = BatchedEngine(tiny_sample(), FitSettings()).lower([Patch("all", (), ())])
    tests = BatchedEngine(tiny_sample(), FitSettings()).batch_fits(batch)
    lowest = tests.lowest(1.0)
    fits = Fits(batch.data, batch.aux, tests.mu, tests.rows)
    tests.fitter.fit(fits, {"suggested": batch.init})
    assert fits.value[0] > lowest.value[0] + 5.0
    point = lowest.point.copy()
    point[0, list(batch.names[0]).index("big")] -= 0.6
    tests.search.follow(fits, "products", tests.rows, point, double=True, far=far)
    is_lowest = fits.value[0] == pytest.approx(lowest.value[0], abs=1e-6)
    assert is_lowest == far


def test_what_is_tried_does_not_depend_on_a_larger_neighbour() -> None:
    """The union of all parameters of a batch is larger than what one of its patches has."""
    workspace = models.background("normsys", "staterror")
    many = [
        {"name": f"own{number}", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}}
        for number in range(60)
    ]
    small, large = (
        Patch(name, (), [{"op": "add", "path": "/channels/0/samples/-", "value": signal}])
        for name, signal in (
            ("small", models.signal([8.0, 14.0])),
            ("large", models.signal([8.0, 14.0], *many)),
        )
    )
    engine = BatchedEngine(workspace, FitSettings())
    tried = []
    for patches in ([small], [small, large]):
        ((batch, members),), _ = engine.lower(patches)
        fits = engine.batch_fits(batch).four_fits()
        row = members.index(small)
        tried.append(
            {
                name: (
                    fits[name].looked[row],
                    sum(row in rows for _, rows, *_ in fits[name].attempts),
                )
                for name in FITS
            }
        )
    assert tried[0] == tried[1]


def stored_minima() -> list[dict[str, str]]:
    """Minima of ATLAS-SUSY-2018-06; a point where the nearest one is another has both."""
    with (RESULTS / "minima-3L-RJ.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module", params=["hard", pytest.param("all", marks=pytest.mark.study)])
def three_leptons(
    request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """ATLAS-SUSY-2018-06, a likelihood that the engine was not made with: fits and results."""
    archive = shared / "pallets" / "3L-RJ-likelihoods.tar.gz"
    if not archive.exists():
        pytest.skip(f"there is no {archive}")
    members = ["BkgOnly.json", "patchset.json"]
    folder = tmp_path_factory.mktemp("3L-RJ")
    files = unpack(archive, members, folder, DownloadSettings(), sha256={})
    path = files["patchset.json"]
    patches = parse_patchset(read_pallet_json(path), path).patches
    if request.param == "hard":
        hard = {row["patch"] for row in stored_minima() if row["nearest_CLs_obs"]}
        patches = tuple(p for i, p in enumerate(patches) if i % 20 == 0 or p.name in hard)
    workspace = read_pallet_json(files["BkgOnly.json"])
    engine = BatchedEngine(workspace, FitSettings())
    ((_, members_of_batch),), refused = engine.lower(list(patches))
    assert not refused
    several: list[dict[str, Fits]] = []
    four_fits = BatchFits.four_fits

    def keep(self: BatchFits) -> dict[str, Fits]:
        several.append(four_fits(self))
        return several[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(BatchFits, "four_fits", keep)
        results = {patch.name: result for patch, result in engine.hypotests(patches)}
    fits = several[0]
    assert len(fits["free"].value) == len(members_of_batch)
    return workspace, members_of_batch, fits, results


def test_no_fit_ends_above_the_lowest_known_minimum(three_leptons: Any, shared: Path) -> None:
    """Values without constants; the deep search has tried all parameters, but is no proof."""
    _, patches, fits, _ = three_leptons
    known = json.loads((shared / "reference" / "3L-RJ.lowest-2nll.json").read_text())
    for name in FITS:
        assert fits[name].converged.all()
        for row, patch in enumerate(patches):
            assert 2 * fits[name].value[row] <= known[patch.name][name] + 1e-5, (patch.name, name)


def test_lower_minima_than_known_ones_are_there(three_leptons: Any) -> None:
    """Two of these lie below what the deep search had, by up to 21 in 2 NLL."""
    _, patches, fits, _ = three_leptons
    lowest = {patch.name: 2 * float(fits["fixed"].value[row]) for row, patch in enumerate(patches)}
    for name, value in LOWER_THAN_KNOWN.items():
        assert lowest[name] == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize(
    "size", [1, *(pytest.param(size, marks=pytest.mark.study) for size in (4, 7))]
)
def test_neighbours_in_a_batch_do_not_matter(three_leptons: Any, size: int) -> None:
    workspace, patches, fits, _ = three_leptons
    order = np.random.default_rng(size).permutation(len(patches))[: 2 * size]
    engine = BatchedEngine(workspace, FitSettings())
    for first in range(0, len(order), size):
        chosen = order[first : first + size]
        ((batch, members),), _ = engine.lower([patches[index] for index in chosen])
        alone = engine.batch_fits(batch).four_fits()
        for row, patch in enumerate(members):
            there = next(i for i, other in enumerate(patches) if other.name == patch.name)
            for name in FITS:
                difference = 2 * abs(alone[name].value[row] - fits[name].value[there])
                assert difference < 1e-9, (patch.name, name)


def test_both_minima_of_three_leptons_are_as_stored(three_leptons: Any) -> None:
    """The table of benchmarks/both_minima.py, where a deep search saw nothing lower."""
    *_, results = three_leptons
    rows = [row for row in stored_minima() if row["patch"] in results]
    assert {row["patch"] for row in rows} == results.keys()
    for row in rows:
        result, fit = results[row["patch"]], row["fit"]
        lowest = min(float(row["twice_nll"]), float(row["deep_twice_nll"]))
        assert result.fits[fit].twice_nll == pytest.approx(lowest, abs=1e-6), row
        for prefix, of_minimum in (("", result), ("nearest_", result.other)):
            if not row[f"{prefix}CLs_obs"]:
                assert of_minimum is None, row
                continue
            p_values = of_minimum.p_values
            assert p_values.CLs_obs == pytest.approx(float(row[f"{prefix}CLs_obs"]), abs=1e-6)
            assert p_values.CLs_exp[2] == pytest.approx(float(row[f"{prefix}CLs_exp"]), abs=1e-6)
        if row["nearest_above"]:
            above = result.other.fits[fit].above
            assert above == pytest.approx(float(row["nearest_above"]), abs=1e-5)
    assert sum(bool(row["nearest_CLs_obs"]) for row in rows) == 4 * 10


@pytest.mark.study  # neighbours of patches of three leptons are no study
@pytest.mark.parametrize(("analysis", "region"), [("staus", "combined"), ("1Lbb", "1Lbb")])
def test_published_patches_do_not_depend_on_others(
    shared: Path, tmp_path: Path, analysis: str, region: str
) -> None:
    workspace, patches = read_likelihood(shared, tmp_path, analysis, region)
    chosen = patches[:: len(patches) // 3][:3]

    def ends(*batches: list[Patch]) -> dict[str, list[float]]:
        engine = BatchedEngine(workspace, FitSettings())
        return {
            patch.name: [result.fits[name].twice_nll for name in FITS]
            for batch in batches
            for patch, result in engine.hypotests(batch)
        }

    together = ends(list(chosen))
    for other in (ends(*([patch] for patch in chosen)), ends(chosen[1::-1], chosen[2:])):
        for name, values in together.items():
            assert other[name] == pytest.approx(values, abs=1e-9), name


@pytest.mark.parametrize("engine", ["batched", "reference"])
def test_a_test_of_discovery_holds_both_minima(engine: str) -> None:
    """Twenty more events in the first bin are explained by either sign of a parameter."""
    data = {"hi_data": [18.0, 9.0], "lo_data": [24.0, 11.0]}
    bent = {"name": "bent", "type": "histosys", "data": data}
    samples = [models.sample("bkg", [10.0, 10.0], bent), models.signal([4.0, 1.0])]
    start = {"name": "bent", "inits": [0.1]}
    spec = models.workspace({"SR": samples}, {"SR": [30.0, 10.0]}, [start])
    starts = ["suggested", "background", "free"]
    lowest, nearest = (
        results_of(
            spec,
            [Patch("all", (), ())],
            engine=engine,
            starts=starts,
            test_statistic="q0",
            minimum=name,
        )["all"]
        for name in ("lowest", "nearest")
    )
    assert lowest.other is not None
    assert nearest.other is not None
    for counted, other in ((lowest, nearest.other), (nearest, lowest.other)):
        assert counted.minimum == other.minimum
        for first, second in (
            (counted.p_values.CLs_obs, other.p_values.CLs_obs),
            (counted.p_values.CLs_exp, other.p_values.CLs_exp),
        ):
            assert first == pytest.approx(second, abs=1e-9)
    # The Asimov data are those of the fit with signal, which ends elsewhere.
    assert {"fixed", "asimov_fixed"} <= set(lowest.other.fits)
    assert lowest.p_values.CLs_exp[2] == pytest.approx(0.3645, abs=1e-4)
    assert nearest.p_values.CLs_exp[2] == pytest.approx(0.2667, abs=1e-4)
    assert lowest.remarks[0].startswith("the nearest minimum gives p0 0.02812 observed, 0.2667 exp")
    assert "CLs" not in lowest.remarks[0]


@pytest.mark.parametrize(
    "names",
    [
        ["DS_160_1_Staus"],
        pytest.param(
            ["DS_200_40_Staus", "DS_240_1_Staus", "DS_300_40_Staus"], marks=pytest.mark.study
        ),
    ],
    ids=["one", "others"],
)
def test_a_product_is_followed_however_high_it_begins(
    shared: Path, tmp_path: Path, names: list[str]
) -> None:
    # A sample of next to no events becomes less than none: up to 60 higher in NLL at first.
    # Neighbours of these points and many displaced starts end there, too.
    lowest = {
        "DS_160_1_Staus": 225.7161,
        "DS_200_40_Staus": 223.3447,
        "DS_240_1_Staus": 223.3127,
        "DS_300_40_Staus": 222.1812,
    }
    workspace, patches = read_likelihood(shared, tmp_path, "staus", "combined")
    results = results_of(workspace, [patch for patch in patches if patch.name in names])
    assert results.keys() == {*names}
    for name, result in results.items():
        assert result.fits["fixed"].twice_nll == pytest.approx(lowest[name], abs=1e-3), name


@pytest.mark.parametrize("mu", [2.5, pytest.param(6.0, marks=pytest.mark.study)])
def test_a_product_is_followed_where_its_first_steps_are_refused(
    shared: Path, tmp_path: Path, mu: float
) -> None:
    # Asimov data: from the minimum at a mu of 1.84, the expected limit, fits at larger mu follow.
    lowest = {2.5: 16.57302, 6.0: 30.94237}
    workspace, patches = read_likelihood(shared, tmp_path, "staus", "combined")
    chosen = [patch for patch in patches if patch.name == "DS_220_1_Staus"]
    (result,) = results_of(workspace, chosen, mu=mu).values()
    assert result.p_values.q_asimov == pytest.approx(lowest[mu], abs=1e-3)
