"""CLs as a function that JAX differentiates."""

from __future__ import annotations

import numpy as np
import pytest

import palletfit
from palletfit.errors import PalletError

from . import models

jax = pytest.importorskip("jax")

WORKSPACE = models.background("normsys", "staterror")


def test_gradients_are_those_of_the_library() -> None:
    from palletfit.jax import cls

    function = cls(WORKSPACE, uncertainties={"theory": 0.2})
    (channel, size) = next(
        (entry["name"], len(entry["data"])) for entry in WORKSPACE["observations"]
    )
    yields = np.array([6.0, 9.0])[:size]
    expected = palletfit.hypotest(
        WORKSPACE,
        signal={channel: yields.tolist()},
        uncertainties={"theory": 0.2},
        derivatives=True,
        poi=models.POI,
    ).only
    ((slopes,),) = (samples.values() for samples in expected.derivatives.channels.values())
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        both = jax.jit(jax.value_and_grad(lambda signal: function(signal)[0]))
        value, gradient = both({channel: yields})
        several = jax.vmap(lambda signal: function({channel: signal}))(np.stack([yields, yields]))
    assert float(value) == pytest.approx(expected.p_values.CLs_obs, rel=1e-6)
    np.testing.assert_allclose(gradient[channel], slopes.CLs_obs, rtol=1e-5)
    assert several.shape == (2, 6)
    of_list = jax.grad(lambda signal: function(signal)[0])({channel: yields.tolist()})
    np.testing.assert_allclose(of_list[channel], slopes.CLs_obs, rtol=1e-5)


def test_wrong_yields_are_refused() -> None:
    from palletfit.jax import cls

    function = cls(WORKSPACE)
    with pytest.raises(PalletError, match="There is no channel 'XR'"):
        function({"XR": np.array([1.0])})
    channel = WORKSPACE["observations"][0]["name"]
    with pytest.raises(PalletError, match="bins, and its yields have the shape"):
        function({channel: np.ones(17)})
    with pytest.raises(PalletError, match="There is no measurement 'fi'") as error:
        cls(WORKSPACE, measurement="fi")
    assert "Did you mean 'fit'?" in error.value.remedy
    with pytest.raises(PalletError, match="already"):
        cls(models.full("normsys"))
