"""Tables of yields and of their systematic uncertainties: frozen, and ready for any format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from palletfit.core.latex import escaped, tabulars, with_uncertainty
from palletfit.engine.records import Status, finite
from palletfit.products.diagnostics.yields import Channel, Prediction, Yields

if TYPE_CHECKING:
    import pandas as pd

#: Columns of one tabular in LaTeX.
_COLUMNS = 4


@dataclass(frozen=True)
class Systematic:
    """Relative uncertainty of a yield by one parameter, or a group of them.

    Attributes
    ----------
    parameter
        Name of the parameter without its component, or of the group.
    channel, sample
        Yield of all bins of a channel; the sample is empty for the sum of all.
    prefit, postfit
        Relative to the yield before and after the fit; None where there is none.
    """

    parameter: str
    channel: str
    sample: str
    prefit: float | None
    postfit: float | None

    @property
    def size(self) -> float:
        """The larger one of both."""
        return max(self.prefit or 0.0, self.postfit or 0.0)


@dataclass(frozen=True)
class YieldTables:
    """Yields of all channels before and after a fit, which may be one of chosen channels.

    Attributes
    ----------
    poi, mu, mu_prefit
        Parameter of interest, empty where there is none, and its value after and before the fit.
    twice_nll, reason
        2 NLL at the minimum, as pyhf has it, and why it is trusted or not.
    status
        ``suspect`` if it is not.
    channels
        Data and predictions of all channels, also of those that are not fitted. Data of blinded
        channels are NaN.
    fitted
        Names of the channels that are fitted.
    masked
        Bins of them that are not, counted from zero.
    blinded
        Names of channels whose observations are not read.
    signals
        Names of samples that the parameter of interest scales.
    systematics
        Uncertainties by parameter; those without any effect are left out.
    remarks
        What a reader should know.
    """

    poi: str
    mu: float | None
    mu_prefit: float | None
    twice_nll: float
    reason: str
    status: Status
    channels: tuple[Channel, ...]
    fitted: tuple[str, ...]
    masked: Mapping[str, tuple[int, ...]]
    blinded: tuple[str, ...]
    signals: tuple[str, ...]
    systematics: tuple[Systematic, ...]
    remarks: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Give plain numbers for a table, by column."""
        return {
            "status": self.status,
            "mu": self.mu,
            "twice_nll": self.twice_nll,
            "channels": len(self.channels),
            "fitted_channels": len(self.fitted),
            "remark": "; ".join(self.remarks),
        }

    def as_json(self) -> dict[str, Any]:
        """Give plain data."""
        plain: dict[str, Any] = finite(asdict(self))
        return plain

    def channel(self, name: str) -> Channel:
        """Find a channel by its name.

        Raises
        ------
        KeyError
            The model has no such channel.
        """
        for channel in self.channels:
            if channel.name == name:
                return channel
        raise KeyError(name)

    # ------------------------------------------------------------------ tables

    def rows(self, *, per_bin: bool = False) -> list[dict[str, Any]]:
        """Make one plain row for each sample of a channel, and for their sum.

        Parameters
        ----------
        per_bin
            Make a row for each bin, too, instead of one for the sum of bins.

        Returns
        -------
        list
            ``channel``; with `per_bin` ``bin``, counted from zero; ``kind`` (``sample`` or
            ``total``); ``sample``; ``prefit``, ``postfit`` and their uncertainties ``…_error``;
            ``observed`` of totals, None where it is blinded; and ``state``: ``fitted``,
            ``predicted``, or ``masked``.
        """
        table = []
        for channel in self.channels:
            for number in range(len(channel.data)) if per_bin else [None]:
                table += self._rows_of(channel, number)
        return table

    def _rows_of(self, channel: Channel, number: int | None) -> list[dict[str, Any]]:
        """Make the rows of a channel, or of one of its bins."""
        lead: dict[str, Any] = {"channel": channel.name}
        if number is not None:
            lead["bin"] = number
        entries = [("sample", name) for name in channel.postfit.samples] + [("total", "")]
        table = []
        for kind, name in entries:
            pairs = [
                cell(_chosen(prediction, kind, name), number)
                for prediction in (channel.prefit, channel.postfit)
            ]
            (prefit, prefit_error), (postfit, postfit_error) = pairs
            numbers = {
                "prefit": prefit,
                "prefit_error": prefit_error,
                "postfit": postfit,
                "postfit_error": postfit_error,
                "observed": self.observed(channel, number) if kind == "total" else None,
            }
            state = self._state(channel, number)
            table.append({**lead, "kind": kind, "sample": name, **numbers, "state": state})
        return table

    def observed(self, channel: Channel, number: int | None) -> float | None:
        """Give the events in a channel, or in one of its bins; None where they are blinded."""
        if channel.name in self.blinded:
            return None
        return sum(channel.data) if number is None else channel.data[number]

    def _state(self, channel: Channel, number: int | None) -> str:
        if channel.name not in self.fitted:
            return "predicted"
        return "masked" if number in self.masked.get(channel.name, ()) else "fitted"

    def to_dataframe(self, *, per_bin: bool = False) -> pd.DataFrame:
        """Make a table of :meth:`rows`; numbers that do not exist are NaN."""
        import pandas as pd

        return pd.DataFrame(self.rows(per_bin=per_bin))

    def systematic_rows(self) -> list[dict[str, Any]]:
        """Make one plain row for each relative uncertainty."""
        return [asdict(entry) for entry in self.systematics]

    def systematics_dataframe(self) -> pd.DataFrame:
        """Make a table of relative uncertainties; those that do not exist are NaN."""
        import pandas as pd

        columns = ["parameter", "channel", "sample", "prefit", "postfit"]
        return pd.DataFrame(self.systematic_rows(), columns=columns)

    def largest(self, channel: str, sample: str = "") -> list[Systematic]:
        """List the uncertainties of a yield, the largest one after the fit first."""
        entries = [
            entry
            for entry in self.systematics
            if (entry.channel, entry.sample) == (channel, sample)
        ]
        return sorted(entries, key=lambda entry: (-(entry.postfit or 0.0), -entry.size))

    # ------------------------------------------------------------------ LaTeX

    def to_latex(self, *, per_bin: bool = False) -> str:
        r"""Write the yields as LaTeX: a column for each channel, and no package needed.

        Parameters
        ----------
        per_bin
            Make a column for each bin instead.

        Returns
        -------
        str
            One ``tabular`` or several of the same rows; names are escaped.
        """
        columns: list[tuple[Channel, int | None]] = [
            (channel, number)
            for channel in self.channels
            for number in (range(len(channel.data)) if per_bin else [None])
        ]
        names = sorted({name for channel in self.channels for name in channel.postfit.samples})
        titles = [escaped(_title(channel.name, number)) for channel, number in columns]
        groups = [
            [("Observed", [self._latex_observed(*column) for column in columns])],
            *(
                [
                    (words, [_latex_cell(_of(channel, when, ""), n) for channel, n in columns]),
                    *(
                        (
                            rf"\quad {escaped(name)}",
                            [_latex_cell(_of(channel, when, name), n) for channel, n in columns],
                        )
                        for name in names
                    ),
                ]
                for when, words in (
                    ("postfit", "Expected after the fit"),
                    ("prefit", "Expected before the fit"),
                )
            ),
        ]
        return tabulars("Events", titles, groups, columns=_COLUMNS)

    def _latex_observed(self, channel: Channel, number: int | None) -> str:
        count = self.observed(channel, number)
        return "blinded" if count is None else f"${count:.10g}$"

    def systematics_to_latex(self, *, top: int | None = None) -> str:
        """Write the relative uncertainties of channels after the fit as LaTeX, in percent.

        Parameters
        ----------
        top
            Only so many parameters, the largest ones in any channel; None: all of them.
        """
        sizes: dict[str, float] = {}
        by_place: dict[tuple[str, str], float | None] = {}
        for entry in self.systematics:
            if not entry.sample:
                sizes[entry.parameter] = max(sizes.get(entry.parameter, 0.0), entry.postfit or 0.0)
                by_place[entry.parameter, entry.channel] = entry.postfit
        ordered = sorted(sizes, key=lambda name: (-sizes[name], name))[:top]
        titles = [escaped(channel.name) for channel in self.channels]
        totals = [relative(channel.postfit.model) for channel in self.channels]
        groups = [
            [("Total", [_percent(total) for total in totals])],
            [
                (
                    escaped(name),
                    [_percent(by_place.get((name, channel.name))) for channel in self.channels],
                )
                for name in ordered
            ],
        ]
        return tabulars("Uncertainty of the yield", titles, groups, columns=_COLUMNS)


def cell(expected: Yields | None, number: int | None) -> tuple[float | None, float | None]:
    """Give a yield and its uncertainty, of one bin or of the sum of all."""
    if expected is None:
        return None, None
    if number is None:
        return expected.total, expected.total_error
    counts = expected.values  # noqa: PD011  no table of pandas
    return counts[number], expected.errors[number]


def relative(expected: Yields) -> float | None:
    """Divide the uncertainty of all bins by their yield."""
    return expected.total_error / abs(expected.total) if expected.total else None


def _of(channel: Channel, when: str, name: str) -> Yields | None:
    """Give the yields of a sample, or of the sum of all."""
    prediction: Prediction = getattr(channel, when)
    return prediction.samples.get(name) if name else prediction.model


def _chosen(prediction: Prediction, kind: str, name: str) -> Yields | None:
    return prediction.model if kind == "total" else prediction.samples.get(name)


def _title(name: str, number: int | None) -> str:
    return name if number is None else f"{name}[{number}]"


def _latex_cell(expected: Yields | None, number: int | None) -> str:
    value, error = cell(expected, number)
    return "--" if value is None or error is None else with_uncertainty(value, error)


def _percent(value: float | None) -> str:
    return "--" if value is None else rf"${100 * value:.2g}\,\%$"
