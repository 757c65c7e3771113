"""Checks of an endpoint before the first fit."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Mapping
from typing import Any

from palletfit.config import ExecutorSettings
from palletfit.errors import ExecutorError
from palletfit.executors.globus import failures
from palletfit.executors.globus.group import TaskGroup
from palletfit.runs import remote
from palletfit.runs.faults import BadAnswer
from palletfit.runs.remote import result_versions

logger = logging.getLogger(__name__)

#: Seconds between looks for the probe's answer: the least, the most, and how they grow.
_QUICK, _SLOW, _GROWTH = 0.5, 5.0, 1.3
#: Seconds between messages while the answer is awaited.
_REPORT = 30.0
#: Largest difference of the probe's CLs; other processors round differently.
_AGREEMENT = 1e-6


def preflight(group: TaskGroup, settings: ExecutorSettings, *, collect: bool) -> None:
    """Ask whether the endpoint can fit, and open a task group by that.

    Parameters
    ----------
    group
        Of the endpoint.
    settings
        ``endpoint``, ``preflight`` (if not, a group is opened without waiting for an answer),
        ``deadline`` of the answer.
    collect
        Whether this process waits for results, and so for the probe's.

    Raises
    ------
    ExecutorError
        Fits cannot run there.
    """
    ledger = group.ledger
    resumed = ledger.group is not None and bool(ledger.in_flight)
    careful = settings.preflight and not resumed
    if careful and group.status() != "online":
        raise ExecutorError(
            f"The endpoint {settings.endpoint} is offline.",
            remedy="Start it on its login node (`globus-compute-endpoint start NAME`), or set "
            "`executor.preflight: false`: tasks then wait until it is started.",
        )
    group.register()
    if resumed:
        return  # it worked before, and its results are what matters now
    probe = group.open()
    if careful and collect:
        _compare(_answer(group, probe, settings))


def refuse_others(versions: Mapping[str, str], engines: Mapping[str, str]) -> None:
    """Refuse a worker whose versions or engines are not those of this machine.

    Raises
    ------
    ExecutorError
        They are not.
    """
    ours = remote.versions()
    unlike = [name for name in remote.REQUIRED if versions.get(name) != ours.get(name)]
    if engines == result_versions() and not unlike:
        return
    pairs = [f"{name} {versions.get(name, 'none')} (here {ours.get(name)})" for name in unlike]
    raise ExecutorError(
        f"The worker has another version of {', '.join(pairs) or 'the engine'}.",
        remedy="Install the same checkout on both sides: there, the environment of "
        "envs/endpoint.txt and `pip install --no-deps` of this checkout; then restart the "
        "endpoint.",
    )


def _answer(group: TaskGroup, probe: str, settings: ExecutorSettings) -> remote.Probe:
    """Return the answer to a probe, which is sent again if it is not usable."""
    for attempt in itertools.count():
        try:
            return remote.read_probe(_await_answer(group, probe, settings.deadline))
        except BadAnswer as error:
            if attempt == settings.retries:
                raise ExecutorError(
                    f"The answer of the endpoint's first worker is refused: {error}.",
                    remedy="Restart the endpoint with the environment of envs/endpoint.txt and "
                    "this checkout, then run again.",
                ) from None
            logger.warning("the answer of the first worker is refused (%s); asked again", error)
        probe = group.open()
    raise AssertionError  # the loop has no end of its own


def _await_answer(group: TaskGroup, probe: str, deadline: float) -> Any:
    began = last = time.monotonic()
    pause = _QUICK
    while True:
        outcome = group.outcomes([probe]).get(probe)
        if outcome is not None and outcome.error is not None:
            raise failures.fatal(outcome.error) or failures.unusable(outcome.error)
        if outcome is not None and outcome.state == "unreadable":
            raise BadAnswer(str(outcome.value))
        if outcome is not None and outcome.ended:
            return outcome.value
        now = time.monotonic()
        if now - began > deadline:
            raise ExecutorError(
                f"The endpoint's first worker did not answer within {deadline:.0f} s.",
                remedy="Look at the endpoint's log and the site's queue; raise "
                "`executor.deadline` where queues are long.",
            )
        if now - last > _REPORT:
            last = now
            state = "unknown to the service" if outcome is None else outcome.state
            logger.info("waiting for the endpoint's first worker (%s)", state)
        pause = min(_SLOW, _GROWTH * pause)
        time.sleep(pause)


def _compare(answer: remote.Probe) -> None:
    """Compare the worker with this machine."""
    ours, theirs = remote.versions(), answer.versions
    refuse_others(theirs, answer.engines)
    unlike = [
        f"{name} {theirs.get(name, 'none')} (here {ours.get(name, 'none')})"
        for name in remote.COMPARED
        if theirs.get(name) != ours.get(name)
    ]
    if unlike:
        logger.warning("the worker has %s", ", ".join(unlike))
    expected = remote.tiny_fit()
    if abs(answer.CLs_obs - expected) > _AGREEMENT:
        raise ExecutorError(
            f"A tiny fit gives CLs {answer.CLs_obs!r} on the worker and {expected!r} here.",
            remedy="Install the environment that envs/endpoint.txt locks on the worker.",
        )
    logger.info("first worker: %s, %s", answer.host, answer.device)
