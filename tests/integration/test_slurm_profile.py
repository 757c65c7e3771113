"""Snakemake's own Slurm executor, with the patches of a region shared by its jobs."""

from __future__ import annotations

import json
import os

import pytest

from ..workflow.conftest import Folder
from ..workflow.pallets import TinyPallet
from .stack import Stack

pytestmark = pytest.mark.slow


class OnSlurm(Folder):
    """Runs with the profile `slurm`."""

    def command(self, *arguments: str) -> list[str]:
        local = super().command()
        position = local.index("--profile")
        local[position + 1] = str(self.project / "profiles" / "slurm")
        # No accounting, and soon the first look: what a small cluster of tests needs.
        return [
            *local,
            *("--set-threads", "hypotest_part=1", "--slurm-no-account"),
            *("--slurm-status-command", "squeue"),
            *("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5"),
            *("--default-resources", "slurm_partition=debug", "runtime=2", "mem_mb=1"),
            *("--", *arguments),
        ]


def test_parts_are_fitted_in_slurm_jobs(
    services: Stack,
    folder: Folder,
    tiny: TinyPallet,
) -> None:
    services.slurm.cancel_all()
    # Snakemake's jobs forget all SLURM_ variables, also the one that says which Slurm this is.
    wrapper = folder.path / "bin" / "srun"
    wrapper.parent.mkdir()
    where = services.slurm.environment["SLURM_CONF"]
    wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={where} exec /usr/bin/srun "$@"\n')
    wrapper.chmod(0o755)
    variables = {
        **services.slurm.environment,
        "PATH": f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}",
    }
    site = OnSlurm(folder.path, folder.project, folder.config, variables)
    # The profile's number is for a real pallet.
    site.config["executor"] = {"parts": 2}
    site.config["on_failure"] = "continue"
    broken = tiny.patches[3]
    broken["patch"][0]["value"]["data"] = [1.0]  # one bin of two
    tiny.write()
    run = site.run(tiny.hypotest())
    assert run.output.count("submitted with SLURM jobid") == 2
    assert run.fitted == tiny.names
    manifest = json.loads((site.path / tiny.hypotest()).read_bytes())
    statuses = {name: item["status"] for name, item in manifest["patches"].items()}
    failed = broken["metadata"]["name"]
    assert statuses == {**dict.fromkeys(tiny.names, "ok"), failed: "failed"}
