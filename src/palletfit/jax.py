"""CLs as a function of signal yields that JAX can differentiate.

:func:`cls` makes a function of arrays, which ``jax.grad``, ``jax.jacrev``, ``jax.jit`` and
``jax.vmap`` take. Its fits are those of :func:`palletfit.hypotest`, and its derivatives those of
:mod:`palletfit.engine.derivatives`; JAX is told of them by ``jax.custom_vjp``. JAX is an extra:
``pip install jax``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from palletfit.api import Source, fit_settings_of, workspace_of
from palletfit.core.arrays import FloatArray
from palletfit.core.text import did_you_mean
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.refusals import parameters_of
from palletfit.errors import BackendError, ConfigError, PalletError, PalletfitError
from palletfit.pallet.patches import Patch
from palletfit.products.points.signals import Signal, normsys

#: Observed CLs and the five expected ones.
_VALUES = 6


def cls(
    workspace: Source,
    mu: float = 1.0,
    *,
    uncertainties: Mapping[str, float] | None = None,
    check: bool = True,
    **settings: Any,
) -> Callable[[Mapping[str, Any]], Any]:
    """Make a function that gives CLs of a signal from its yields.

    Parameters
    ----------
    workspace
        File or content of a background-only workspace.
    mu
        Tested signal strength.
    uncertainties
        Relative uncertainties of all yields (normsys), by name.
    check
        Validate the file against pyhf's schema.
    settings
        Further fields of :class:`palletfit.config.FitSettings`.

    Returns
    -------
    callable
        A function of a mapping from channels to arrays of yields, one a bin. It gives the observed
        CLs and the five expected ones, for -2, -1, 0, 1, 2 standard deviations, ``(6,)``. Gradients
        are NaN where CLs has no derivative. A signal without a result raises.

    Raises
    ------
    BackendError
        JAX is not installed.
    PalletError
        The workspace is not what it should be, has a signal, or no such measurement.

    Examples
    --------
    >>> import jax, numpy
    >>> import palletfit.jax
    >>> from palletfit.pallet.demo import demo_workspace
    >>> function = palletfit.jax.cls(demo_workspace(), uncertainties={"theory": 0.2})
    >>> signal = {"SR_high": numpy.array([1.0, 3.0, 6.0])}
    >>> slopes = jax.grad(lambda yields: function(yields)[3])(signal)  # the median expected CLs
    >>> bool((slopes["SR_high"] < 0).all())
    True
    """
    _require_jax()
    host = _Host(workspace, mu, uncertainties or {}, settings, check=check)
    return _differentiable(host)


def _require_jax() -> None:
    if find_spec("jax") is None:
        raise BackendError("JAX is not installed.", remedy="Install it with `pip install jax`.")


class _Host:
    """Tests of signals of yields, outside of JAX."""

    def __init__(
        self,
        workspace: Source,
        mu: float,
        uncertainties: Mapping[str, float],
        settings: Mapping[str, Any],
        *,
        check: bool,
    ) -> None:
        content = workspace_of(workspace, check=check)
        fit_settings = fit_settings_of(cls, {**settings, "mu": mu, "derivatives": True})
        self._engine = BatchedEngine(content, fit_settings)
        poi = _measurement(content, fit_settings.measurement)["config"]["poi"]
        parameters = parameters_of(content)
        for name in (poi, *uncertainties):
            if name in parameters:
                raise PalletError(
                    f"The workspace has a parameter {name!r} already.",
                    remedy="Give a background-only workspace, and uncertainties of other names.",
                )
        bins = {entry["name"]: len(entry["data"]) for entry in content["observations"]}
        positions = {entry["name"]: index for index, entry in enumerate(content["channels"])}
        strength = {"name": poi, "type": "normfactor", "data": None}
        sizes = (normsys(name, size) for name, size in uncertainties.items())
        self._signal = Signal(bins, positions, _free_name(content), (strength, *sizes))

    def check(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse yields of unknown channels, or of other sizes.

        Raises
        ------
        PalletError
            With the channel.
        """
        bins = self._signal.bins
        if not shapes:
            raise ConfigError("There are no yields.", remedy="Give those of one channel at least.")
        for channel, shape in shapes.items():
            if channel not in bins:
                raise PalletError(
                    f"There is no channel {channel!r}.",
                    remedy=f"{did_you_mean(channel, bins)}There are {', '.join(bins)}.",
                )
            if shape != (bins[channel],):
                raise PalletError(
                    f"Channel {channel!r} has {bins[channel]} bins, and its yields have the shape "
                    f"{shape}.",
                    remedy="Give one number for each bin.",
                )

    def test(self, yields: Mapping[str, FloatArray]) -> tuple[FloatArray, dict[str, FloatArray]]:
        """Test signals.

        Parameters
        ----------
        yields
            By channel, ``(…, N)``.

        Returns
        -------
        tuple
            CLs, ``(…, 6)``, and their derivatives by channel, ``(…, 6, N)``.
        """
        arrays = {name: np.asarray(values, dtype=float) for name, values in yields.items()}
        (leading,) = {values.shape[:-1] for values in arrays.values()}
        flat = {name: values.reshape(-1, values.shape[-1]) for name, values in arrays.items()}
        count = len(next(iter(flat.values())))
        patches = [
            self._patch(number, {name: values[number] for name, values in flat.items()})
            for number in range(count)
        ]
        cls_values = np.zeros((count, _VALUES))
        sizes = {name: values.shape[1] for name, values in flat.items()}
        slopes = {name: np.zeros((count, _VALUES, size)) for name, size in sizes.items()}
        for patch, result in self._engine.hypotests(patches, brief=True):
            if isinstance(result, PalletfitError):
                raise result
            row, p_values = int(patch.name), result.p_values
            cls_values[row] = p_values.CLs_obs, *p_values.CLs_exp
            for name, of_channel in slopes.items():
                of_channel[row] = np.nan
                if result.derivatives is not None:
                    sample = result.derivatives.channels[name][self._signal.sample]
                    of_channel[row] = np.vstack([sample.CLs_obs, sample.CLs_exp])
        return (
            cls_values.reshape(*leading, _VALUES),
            {name: values.reshape(*leading, *values.shape[1:]) for name, values in slopes.items()},
        )

    def _patch(self, number: int, yields: Mapping[str, FloatArray]) -> Patch:
        plain = {name: values.tolist() for name, values in yields.items()}
        problem = self._signal.problem(plain)
        if problem is not None:
            raise PalletError(
                f"The yields are none of a signal: {problem}.", remedy="Correct the yields."
            )
        return Patch(str(number), (), self._signal.operations(plain, {}))


def _measurement(workspace: Mapping[str, Any], name: str | None) -> Mapping[str, Any]:
    """Give a measurement by its name, or the first one."""
    measurements: dict[str, Mapping[str, Any]] = {
        entry["name"]: entry for entry in workspace["measurements"]
    }
    if name is not None and name not in measurements:
        raise PalletError(
            f"There is no measurement {name!r}.",
            remedy=f"{did_you_mean(name, measurements)}There are {', '.join(measurements)}.",
        )
    return measurements[name] if name is not None else workspace["measurements"][0]


def _free_name(workspace: Mapping[str, Any]) -> str:
    """Give a name that no sample has."""
    names = {sample["name"] for channel in workspace["channels"] for sample in channel["samples"]}
    name = "signal"
    while name in names:
        name += "_"
    return name


def _differentiable(host: _Host) -> Callable[[Mapping[str, Any]], Any]:
    """Make a function of yields with derivatives of its own."""
    import jax
    import jax.numpy as jnp

    def call(yields: Mapping[str, Any]) -> Any:
        host.check({name: values.shape for name, values in yields.items()})
        kind = jnp.result_type(float)
        shape_of: Any = jax.ShapeDtypeStruct
        shapes = (
            shape_of((_VALUES,), kind),
            {name: shape_of((_VALUES, *values.shape), kind) for name, values in yields.items()},
        )

        def tested(values: Mapping[str, Any]) -> Any:
            numbers, slopes = host.test(values)
            return numbers.astype(kind), {name: by.astype(kind) for name, by in slopes.items()}

        return jax.pure_callback(tested, shapes, yields, vmap_method="broadcast_all")

    @jax.custom_vjp
    def function(yields: Mapping[str, Any]) -> Any:
        return call(yields)[0]

    def forward(yields: Mapping[str, Any]) -> Any:
        return call(yields)

    def backward(slopes: Any, cotangent: Any) -> Any:
        # No part where nothing is asked: a missing derivative is none of the others.
        nonzero = cotangent[:, None] != 0
        return (
            {
                name: jnp.sum(jnp.where(nonzero, cotangent[:, None] * by, 0.0), axis=0)
                for name, by in slopes.items()
            },
        )

    function.defvjp(forward, backward)

    def of_any_yields(yields: Mapping[str, Any]) -> Any:
        # Derivatives by an array, also where a list of numbers is given.
        return function({name: jnp.asarray(values, float) for name, values in yields.items()})

    return of_any_yields
