"""SModelS gets from palletfit what its own computer gives where its fits converge."""

from __future__ import annotations

import copy
import json
import lzma

import numpy as np
import pytest

from palletfit.errors import PalletError

from .. import models

pytest.importorskip("smodels")
basics = pytest.importorskip("smodels.statistics.basicStats")
pyhf_interface = pytest.importorskip("smodels.statistics.pyhfInterface")
stats_tools = pytest.importorskip("smodels.statistics.statsTools")
smodels = pytest.importorskip("palletfit.backends.smodels")

OBSERVED, APRIORI, APOSTERIORI = basics.observed, basics.apriori, basics.aposteriori
SIGNALS = {"high": 8.0, "low": 14.0}
#: Warnings of SModelS, pyhf and SciPy while they fit.
pytestmark = pytest.mark.filterwarnings("ignore")


def workspace(**options):
    """A signal region of two bins and a control region, with a luminosity."""
    return models.background("normfactor", "normsys", "lumi", **options)


def regions():
    """The regions of :func:`workspace` in SModelS's words."""
    return [
        {"smodels": "high", "pyhf": "SR[0]", "type": "SR"},
        {"smodels": "low", "pyhf": "SR[1]", "type": "SR"},
        {"smodels": None, "pyhf": "CR", "type": "CR"},
    ]


def data_of(signals=SIGNALS, *, spec=None, control=True, uncertainty=None):
    content = workspace() if spec is None else spec
    return pyhf_interface.PyhfData(
        dict(signals), content, regions(), control, uncertainty, jsonFileName="model.json"
    )


def computers(*arguments, **options):
    """Ours and SModelS's own."""
    kinds = smodels.UpperLimitComputer, pyhf_interface.PyhfUpperLimitComputer
    return [kind(data_of(*arguments, **options)) for kind in kinds]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.study),
        {"control": False},
        {"uncertainty": 0.2},
        {"signals": {"high": 8.0, "low": -2.0}},
    ],
    ids=["control regions", "none of them", "uncertainty", "negative"],
)
def test_answers_are_those_of_smodels(options):
    if options.get("control") is False:
        # Without its control region the normalisation needs a constraint.
        options = {**options, "spec": models.background("normsys", "lumi")}
    ours, theirs = computers(**options)
    assert isinstance(ours, pyhf_interface.PyhfUpperLimitComputer)
    for mu in (0.0, 1.0):
        assert ours.nll(mu) == pytest.approx(theirs.nll(mu), abs=1e-4)
        assert ours.nll(mu) <= theirs.nll(mu) + 1e-8
    minimum, other = ours.nll_min(), theirs.nll_min()
    assert minimum["nll_min"] == pytest.approx(other["nll_min"], abs=1e-4)
    assert minimum["muhat"] == pytest.approx(other["muhat"], abs=0.02)
    assert 0 < minimum["sigma_mu"] < 3
    limit, own = ours.getUpperLimitOnMu(), theirs.getUpperLimitOnMu()
    assert limit == pytest.approx(own, rel=3e-3)
    assert ours.CLs(limit, OBSERVED) == pytest.approx(0.05, abs=1e-4)


@pytest.mark.parametrize("kind", [OBSERVED, APRIORI, APOSTERIORI], ids=str)
def test_cls_are_those_of_smodels(kind):
    ours, theirs = computers()
    for sigmas in (0, 1):
        own = theirs.CLs(1.0, kind, nSigma=sigmas)
        assert ours.CLs(1.0, kind, nSigma=sigmas) == pytest.approx(own, abs=2e-3)
    assert ours.CLs(1.0, kind, "1-CLs") == pytest.approx(1 - ours.CLs(1.0, kind))
    assert ours.nll_min(kind)["nll_min"] <= theirs.nll_min(kind)["nll_min"] + 1e-8


def test_likelihoods_on_asimov_data():
    ours, theirs = computers()
    for asimov in (0.0, 1.0):
        own = theirs.nll(1.5, OBSERVED, asimov)
        assert ours.nll(1.5, OBSERVED, asimov) == pytest.approx(own, abs=1e-3)
    own = theirs.clsFromNLLs(1.0, OBSERVED, "CLs")
    assert ours.clsFromNLLs(1.0, OBSERVED, "CLs") == pytest.approx(own, abs=2e-3)


def test_signal_strengths_below_zero():
    spec = workspace(observed=(45.0, 28.0))
    computer = smodels.UpperLimitComputer(data_of(spec=spec))
    minimum = computer.nll_min(allowNegativeSignals=True)
    assert -3 < minimum["muhat"] < -0.2
    assert minimum["nll_min"] < computer.nll_min()["nll_min"]
    assert computer.nll(minimum["muhat"]) == pytest.approx(minimum["nll_min"], abs=1e-8)


def test_weak_signals_have_a_limit():
    strong = smodels.UpperLimitComputer(data_of())
    weak = smodels.UpperLimitComputer(data_of({name: s / 1e5 for name, s in SIGNALS.items()}))
    assert weak.getUpperLimitOnMu() == pytest.approx(1e5 * strong.getUpperLimitOnMu(), rel=1e-3)
    assert weak.nll_min()["muhat"] == pytest.approx(1e5 * strong.nll_min()["muhat"], rel=1e-3)


def test_confidence_level():
    data = data_of()
    limits = [smodels.UpperLimitComputer(data, cl).getUpperLimitOnMu() for cl in (0.9, 0.95)]
    assert limits[0] < limits[1]


def test_no_signal_has_no_limit():
    ours, theirs = computers({"high": 0.0, "low": 0.0})
    assert ours.getUpperLimitOnMu() is theirs.getUpperLimitOnMu() is None
    assert ours.nll(1.0) == ours.nll(0.0) == ours.nll_min()["nll_min"]


def test_wrong_regions_are_errors():
    data = data_of({"high": 8.0})
    assert data.errorFlag
    computer = smodels.UpperLimitComputer(data)
    assert computer.getUpperLimitOnMu() is None
    with pytest.raises(PalletError, match="cannot make a patch") as caught:
        computer.nll(1.0)
    assert caught.value.file == "model.json"


def test_numbers_of_numpy_and_workspaces_that_others_look_at():
    computer = smodels.UpperLimitComputer(data_of({k: np.float64(v) for k, v in SIGNALS.items()}))
    plain = smodels.UpperLimitComputer(data_of())
    assert computer.nll(1.0) == plain.nll(1.0)
    assert computer.workspace["channels"][0]["samples"][0]["data"] == [8.0, 14.0]
    assert computer.workspace_expected["observations"][0]["data"] == [60.0, 40.0]
    assert computer.workspace["observations"][0]["data"] == [58.0, 45.0]


def test_signals_of_one_workspace_share_it():
    spec = workspace()
    one = smodels.UpperLimitComputer(data_of(spec=spec))
    two = smodels.UpperLimitComputer(data_of({"high": 1.0, "low": 3.0}, spec=copy.deepcopy(spec)))
    assert one._likelihood.background is two._likelihood.background


def test_it_takes_the_place_of_the_own_one():
    own = stats_tools.PyhfUpperLimitComputer
    assert own is pyhf_interface.PyhfUpperLimitComputer
    with smodels.installed():
        assert stats_tools.PyhfUpperLimitComputer is smodels.UpperLimitComputer
        computer = stats_tools.CompRetriever.forPyhf("all", Dataset(), dict(SIGNALS))
    assert isinstance(computer, smodels.UpperLimitComputer)
    assert computer.includeCRs
    assert stats_tools.PyhfUpperLimitComputer is own


class Dataset:
    """The part of a data set of SModelS's database that makes a computer."""

    class globalInfo:  # noqa: N801
        id = "test"
        regionMappings = {  # noqa: N815, RUF012
            "high": regions()[0],
            "low": regions()[1],
            "CR": regions()[2],
        }
        regionSets = {"all": ["high", "low", "CR"]}  # noqa: N815, RUF012
        statModels = {"all": [("pyhf", "model.json")]}  # noqa: N815, RUF012
        cachedModels = {"model.json": workspace()}  # noqa: N815, RUF012
        includeCRs = True  # noqa: N815

    def getLumi(self):  # noqa: N802
        return 139.0


@pytest.mark.study
@pytest.mark.parametrize("control", [True, False])
@pytest.mark.parametrize("name", ["SUSY-2018-14-comb", "SUSY-2018-05-ewk-simplified"])
def test_model_files_of_smodels(shared, name, control):
    content = lzma.decompress((shared / "workspaces" / f"{name}.json.xz").read_bytes())
    spec = json.loads(content)
    own_regions, signals = [], {}
    for entry in spec["observations"]:
        kind = pyhf_interface.guessPyhfType(entry["name"])
        own_regions.append(
            {
                "smodels": entry["name"] if kind == "SR" else None,
                "pyhf": entry["name"],
                "type": kind,
            }
        )
        if kind == "SR":
            signals[entry["name"]] = 0.5 * (1 + entry["data"][0]) ** 0.5
    data = pyhf_interface.PyhfData(signals, spec, own_regions, control, jsonFileName=name)
    ours = smodels.UpperLimitComputer(data)
    theirs = pyhf_interface.PyhfUpperLimitComputer(data)
    for kind in (OBSERVED, APRIORI):
        own = theirs.getUpperLimitOnMu(kind)
        assert ours.getUpperLimitOnMu(kind) == pytest.approx(own, rel=3e-3)
    assert ours.nll(1.0) == pytest.approx(theirs.nll(1.0), abs=1e-4)
