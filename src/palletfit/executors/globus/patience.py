"""How long a service that is busy is asked again."""

from __future__ import annotations

import logging

import tenacity

from palletfit.errors import ExecutorError
from palletfit.executors.globus.service import ServiceBusyError

logger = logging.getLogger(__name__)

#: Seconds before a busy service is asked again: the least, doubled each time, and the most.
_PAUSE, _LONGEST = 1.0, 30.0


def wait(state: tenacity.RetryCallState) -> float:
    """Return the seconds before the next attempt, at least those that the service asks for."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.wait if isinstance(error, ServiceBusyError) else 0.0
    return float(max(asked, tenacity.wait_exponential(multiplier=_PAUSE, max=_LONGEST)(state)))


def log_busy(state: tenacity.RetryCallState) -> None:
    """Warn that the service is busy."""
    error = state.outcome.exception() if state.outcome else None
    logger.warning("the service is busy (%s); trying again", error)


def impatient(error: ServiceBusyError) -> ExecutorError:
    """Make the error for a service that was busy for too long."""
    return ExecutorError(
        f"The Globus Compute service does not serve: {error.reason}",
        remedy="Run the same command later; nothing that was fitted or sent is lost.",
    )
