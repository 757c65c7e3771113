"""The stack of real services, started once for all tests that ask for it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ..workflow.conftest import folder, preload, prepared, prepared_once, tiny  # noqa: F401  fixtures
from .stack import Stack, missing, running_stack


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole stack; skips where it cannot run, but fails there in continuous integration."""
    if reason := missing():
        give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        give_up(reason)
    preload(
        *("globus_compute_sdk", "palletfit.executors.cluster.parsl_pool"),
        *("palletfit.executors.globus.service", "palletfit.executors.globus.transport"),
    )
    with running_stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture
def stack(services: Stack) -> Stack:
    """The stack with a sound endpoint and without faults, whatever the test before did to it."""
    services.service.web.clear_faults()
    services.service.rate_limit = None
    if not services.endpoint.sound:
        services.slurm.cancel_all()
        services.start_endpoint()
    services.until_online()
    return services
