"""`snakemake --profile expanse`, as it is: a published pallet through everything that can happen.

The endpoint has the profile's files. What is the tests' own: values that the profile leaves to its
user, the interface, and heartbeats, so that the end of a block is noticed in seconds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from ..workflow.conftest import Folder
from ..workflow.pallets import TinyPallet
from .site import Site
from .stack import Stack
from .stack.processes import until

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Published:
    """What a site has to know about a pallet."""

    names: list[str]

    def hypotest(self) -> str:
        return "results/1Lbb/1Lbb/hypotest.json"


class Laptop(Site):
    """Where nothing is set up but `make profiles`, and what only a user knows."""

    def __init__(self, stack: Stack, folder: Folder, pallet: TinyPallet, control: Path) -> None:
        super().__init__(stack, folder, pallet, control)
        configuration = folder.path / "xdg"
        folder.variables |= {
            "XDG_CONFIG_HOME": str(configuration),
            "PALLETFIT_ENDPOINT": stack.endpoint_id,
        }
        subprocess.run(
            ["make", "--silent", "profiles"],
            cwd=folder.project,
            env=folder.environment(),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        folder.profile = "expanse"
        values = {"interface": "lo", "heartbeat_threshold": 20, "heartbeat_period": 5}
        folder.config["executor"] = {"endpoint_config": {"account": "abc-123", **values}}

    def until_said(self, words: str) -> None:
        """Wait for words of a run that goes on."""
        output = self.folder.path / "output"
        until(lambda: words in output.read_text(), f"not said: {words}", [output])


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("control")


@pytest.fixture(scope="module", autouse=True)
def _endpoint(services: Stack, control: Path, project: Path) -> Iterator[None]:
    services.slurm.cancel_all()
    services.service.web.clear_faults()
    variables = {"PALLETFIT_TEST_CONTROL": str(control)}
    services.start_endpoint(variables, profile=project / "profiles" / "expanse" / "endpoint")
    yield
    services.stop_endpoint(at_once=True)
    services.slurm.cancel_all()


def test_a_published_pallet_survives_all_faults(
    services: Stack,
    folder: Folder,
    control: Path,
    shared: Path,
) -> None:
    reference = json.loads((shared / "reference" / "1Lbb.pyhf-scipy.json").read_bytes())
    # Every eighth of 125.
    pallet = Published(sorted(item["name"] for item in reference["results"])[::8])
    assert len(pallet.names) == 16
    site = Laptop(services, folder, pallet, control)
    file = folder.path / "1Lbb.yaml"
    file.write_text(yaml.safe_dump({"extends": "1Lbb", "patches": pallet.names}))
    # No GPU computes here.
    folder.config |= {"analyses": [str(file)], "fit": {"backend": "numpy"}}
    folder.config["download"]["cache"] = str(shared)
    site.hold()
    assert "16 patches sent" in site.run("submit").output
    with site.running_alone("all") as process:
        # Nodes with a GPU there are three.
        until(lambda: len(site.held()) == 3, "no workers", services.endpoint.logs)
        os.kill(site.held()[0], signal.SIGKILL)
        site.until_said("sent again one by one")
        job = next(job for job in services.slurm.squeue() if job.state == "RUNNING")
        assert job.partition == "gpu-shared"
        assert "TresPerJob=gres:gpu:1" in services.slurm.run("scontrol", "show", "job", job.id)
        services.slurm.cancel(job.id)
        site.until_said("its block of nodes ended")
        site.release()
        until(lambda: len(folder.records()) >= 4, "no records", [folder.path / "output"])
        site.kill(process)
    kept = {path: path.read_bytes() for path in folder.records()}
    assert 4 <= len(kept) < 16
    site.run("all")
    site.assert_all_fitted_once()
    for path, content in kept.items():
        assert path.read_bytes() == content
    results = json.loads((folder.path / "results/1Lbb/results.json").read_bytes())
    # Published with pyhf in 2021 and 2022.
    assert results["C1N2_Wh_hbb_1000_0"]["CLs_obs"] == pytest.approx(0.585679, abs=3e-6)
    assert (folder.path / "results/1Lbb/exclusion.png").exists()
    assert site.run("all").idle


def test_workers_compute_with_jax_on_the_gpu_of_their_job(
    services: Stack,
    prepared: tuple[Folder, TinyPallet],
    control: Path,
) -> None:
    folder, tiny = prepared
    site = Laptop(services, folder, tiny, control)
    # One task: each worker would compile.
    site.set(patches_per_task=6)
    site.run()
    records = folder.records().values()
    assert Counter(record["status"] for record in records) == {"ok": 6}
    assert site.gpus == {"0"}
    assert any(record["worker"]["compile_seconds"] > 0 for record in records)
    # Slurm's GPU is not one that JAX could find.
    assert {record["worker"]["device"] for record in records} == {"cpu"}
