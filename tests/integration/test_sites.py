"""Endpoints of sites whose scheduler can be had: Slurm, and Torque's commands in front of it.

The endpoint has the profile's files as they are; only values that they allow are the stack's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from palletfit.runs.remote import tiny_fit

from .stack import Stack

pytestmark = pytest.mark.slow

#: Two tasks: where is it executed, and a fit.
CLIENT = """
import json, subprocess, sys
from globus_compute_sdk import Executor
from palletfit.runs import remote

endpoint, configuration, command = sys.argv[1:]
values = json.loads(configuration)
with Executor(endpoint_id=endpoint, user_endpoint_config=values) as executor:
    futures = [
        executor.submit(subprocess.getoutput, command),
        executor.submit(remote.call, "probe", {"backend": "numpy"}),
    ]
    print(json.dumps([str(future.exception() or "") or future.result() for future in futures]))
"""
WHERE = (
    """echo "$SLURM_JOB_ID $CUDA_VISIBLE_DEVICES $VIRTUAL_ENV"; scontrol show job $SLURM_JOB_ID"""
)
#: What holds for the stack: its partition, its interface, nodes of eight cores and 4 GB.
SLURM = {
    "account": "abc-123",
    "partition": "debug",
    "interface": "lo",
    "walltime": "00:05:00",
    "max_blocks": 1,
    "cores": 2,
    "memory": 1,
}
TORQUE = {
    "account": "abc-123",
    "queue": "debug",
    "interface": "lo",
    "walltime": "00:05:00",
    "max_blocks": 1,
    "cores": 2,
    "node_type": "any",
    "launcher": "SimpleLauncher",
}


@pytest.mark.parametrize(
    ("site", "values", "asked"),
    [
        # Whole runs there are in test_expanse.py.
        pytest.param(
            *("expanse", SLURM, ["TresPerJob=gres:gpu:1", "CPUs/Task=2", "MinMemoryNode=1G"]),
            marks=pytest.mark.study,
        ),
        ("delta", SLURM, ["TresPerNode=gres:gpu:1", "CPUs/Task=2", "MinMemoryNode=1G"]),
        ("bluewaters", TORQUE, ["NumTasks=2", "submit_scripts/parsl"]),
    ],
)
def test_a_site_fits_in_jobs_of_its_scheduler(
    services: Stack, project: Path, site: str, values: dict[str, Any], asked: list[str]
) -> None:
    services.slurm.cancel_all()
    services.start_endpoint(profile=project / "profiles" / site / "endpoint")
    try:
        client = services.client(CLIENT, services.endpoint_id, json.dumps(values), WHERE)
        where, fit = json.loads(client.stdout)
        assert where[0].isdigit(), where + services.logs()
        job, device, environment = where.splitlines()[0].split()
        assert job in [item.id for item in services.slurm.squeue()]
        # Of the one GPU of a node.
        assert device == "0"
        assert environment == sys.prefix
        for words in ["Partition=debug", "TimeLimit=00:05:00", *asked]:
            assert words in where
        assert fit["CLs_obs"] == pytest.approx(tiny_fit(), rel=1e-9)
    finally:
        services.stop_endpoint(at_once=True)
        services.slurm.cancel_all()
