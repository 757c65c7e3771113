"""Requests to a service that may be busy."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import tenacity

from palletfit.errors import ExecutorError
from palletfit.executors.globus.service import ServiceBusyError

logger = logging.getLogger(__name__)

#: Seconds before a busy service is asked again: the least, doubled each time, and the most.
_PAUSE, _LONGEST = 1.0, 30.0
R = TypeVar("R")


def ask(request: Callable[[], R], seconds: float) -> R:
    """Make a request until the service answers, for some seconds.

    Raises
    ------
    ExecutorError
        The service was busy for all that time.
    """
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_delay(seconds),
        wait=_wait,
        retry=tenacity.retry_if_exception_type(ServiceBusyError),
        before_sleep=_log_busy,
        reraise=True,
    )
    try:
        return retrying(request)
    except ServiceBusyError as error:
        raise ExecutorError(
            f"The Globus Compute service does not serve: {error.reason}",
            remedy="Run the same command later; nothing that was fitted or sent is lost.",
        ) from error


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    least = error.wait if isinstance(error, ServiceBusyError) else 0.0
    return float(max(least, tenacity.wait_exponential(multiplier=_PAUSE, max=_LONGEST)(state)))


def _log_busy(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    logger.warning("the service is busy (%s); trying again", error)
