"""The engine that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palletfit.errors import ConfigError

if TYPE_CHECKING:
    from palletfit.config import FitSettings
    from palletfit.engine.engine import BatchedEngine
    from palletfit.engine.protocol import Engine
    from palletfit.engine.samples import Spec


def make_engine(workspace: Spec, settings: FitSettings) -> Engine:
    """Make the engine of ``settings.engine`` for a background-only workspace.

    Each engine is imported only when it is needed.

    Parameters
    ----------
    workspace
        Background-only workspace; must not change while the engine lives.
    settings
        Physics of the tests.

    Raises
    ------
    BackendError
        The array library of ``settings.backend`` is not installed.
    """
    if settings.engine == "reference":
        from palletfit.engine.reference.engine import ReferenceEngine

        return ReferenceEngine(workspace, settings)
    from palletfit.engine.engine import BatchedEngine

    return BatchedEngine(workspace, settings)


def require_batched(engine: Engine, product: str) -> BatchedEngine:
    """Give the batched engine for a product that no other engine makes.

    Raises
    ------
    ConfigError
        It is another engine.
    """
    from palletfit.engine.engine import BatchedEngine

    if not isinstance(engine, BatchedEngine):
        raise ConfigError(
            f"The engine {engine.settings.engine} makes no {product}.",
            remedy='Set `fit.engine: batched`; in a program, leave out `engine="reference"`.',
        )
    return engine
