"""The records of derivatives by yields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from palletfit.core.arrays import FloatArray

if TYPE_CHECKING:
    import pandas as pd

#: Names of the five expected values in columns of tables.
_SIGMAS = ("minus2", "minus1", "0", "plus1", "plus2")


@dataclass(frozen=True)
class HypotestSlopes:
    """Derivatives of a hypothesis test by the yields of one sample in the N bins of a channel.

    All are per event; NaN where there is no derivative.

    Attributes
    ----------
    yields
        Yields, ``(N,)``.
    CLs_obs, CLs_exp
        Derivatives of CLs (of p0 for ``q0``): ``(N,)``, and five expected ones, ``(5, N)``.
    q, q_asimov
        Derivatives of the test statistic on the data and on the Asimov data, ``(N,)``.
    mu_hat
        Derivatives of the best-fit signal strength, ``(N,)``.
    twice_nll
        By the name of a fit the derivatives of its 2 NLL, ``(N,)``.
    """

    yields: FloatArray
    CLs_obs: FloatArray
    CLs_exp: FloatArray
    q: FloatArray
    q_asimov: FloatArray
    mu_hat: FloatArray
    twice_nll: Mapping[str, FloatArray]

    def row(self, number: int) -> dict[str, float]:
        """Give the numbers of one bin by column."""
        plain = {
            entry.name: float(getattr(self, entry.name)[number])
            for entry in fields(self)
            if entry.name not in ("CLs_exp", "twice_nll")
        }
        names = (f"CLs_exp_{sigma}" for sigma in _SIGMAS)
        expected = dict(zip(names, self.CLs_exp[:, number].tolist(), strict=True))
        nlls = {f"twice_nll_{name}": float(by[number]) for name, by in self.twice_nll.items()}
        return plain | expected | nlls


@dataclass(frozen=True)
class LimitSlopes:
    """Derivatives of upper limits by the yields of one sample in the N bins of a channel.

    All are per event; NaN where there is no derivative.

    Attributes
    ----------
    yields
        Yields, ``(N,)``.
    observed, expected
        Derivatives of the observed limit, ``(N,)``, and of the five expected ones, ``(5, N)``.
    """

    yields: FloatArray
    observed: FloatArray
    expected: FloatArray

    def row(self, number: int) -> dict[str, float]:
        """Give the numbers of one bin by column."""
        names = (f"expected_{sigma}" for sigma in _SIGMAS)
        return {
            "yields": float(self.yields[number]),
            "observed": float(self.observed[number]),
            **dict(zip(names, self.expected[:, number].tolist(), strict=True)),
        }


@dataclass(frozen=True)
class Derivatives:
    """Derivatives of a result by the yields of samples.

    Attributes
    ----------
    channels
        By the names of a channel and of a sample :class:`HypotestSlopes` of a hypothesis test, or
        :class:`LimitSlopes` of limits.
    uncertainties
        ``absolute`` if data of histosys, staterror and shapesys modifiers are kept where a yield
        changes, ``relative`` if they scale with it.
    remarks
        Where there is no derivative, or one for one side only.
    """

    channels: Mapping[str, Mapping[str, Any]]
    uncertainties: str
    remarks: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """Make one plain row a bin."""
        return [
            {"channel": channel, "sample": sample, "bin": number, **slopes.row(number)}
            for channel, samples in self.channels.items()
            for sample, slopes in samples.items()
            for number in range(len(slopes.yields))
        ]

    def to_dataframe(self) -> pd.DataFrame:
        """Make a table with one row a bin."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def as_json(self) -> dict[str, Any]:
        """Give plain data: lists of bins by channel and sample."""
        channels = {
            channel: {sample: _plain(slopes) for sample, slopes in samples.items()}
            for channel, samples in self.channels.items()
        }
        return {
            "uncertainties": self.uncertainties,
            "channels": channels,
            "remarks": list(self.remarks),
        }


def _plain(slopes: Any) -> dict[str, Any]:
    """Make lists of the arrays of a record."""
    plain = {entry.name: getattr(slopes, entry.name) for entry in fields(slopes)}
    return {
        name: {fit: by.tolist() for fit, by in value.items()}
        if isinstance(value, Mapping)
        else value.tolist()
        for name, value in plain.items()
    }
