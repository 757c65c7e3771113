"""The likelihood that a network has learned, for signals in the bins of a workspace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from palletfit.core.arrays import FloatArray
from palletfit.core.text import did_you_mean, printable
from palletfit.engine.samples import NORM, Spec
from palletfit.errors import ConfigError, PalletError, PalletfitError
from palletfit.learned.conventions import Conventions, conventions_of
from palletfit.learned.network import Network
from palletfit.pallet.patches import Patch, apply_sharing
from palletfit.products.points.nlls import with_expected_data

#: A bin: its channel, and its number from zero.
Bin = tuple[str, int]
Value = TypeVar("Value")
#: Relative difference of backgrounds that is worth a remark.
_OTHER_BACKGROUND = 0.01
#: So many names are listed in an error or a remark.
_LISTED = 6


@dataclass(frozen=True)
class LearnedLikelihood:
    """A network with the meaning of its inputs and outputs.

    Attributes
    ----------
    network, conventions
        Network, and what its numbers are.
    bins
        Bin of each input.
    names
        Name of each input, as the conventions have it.
    base
        Events that an input has without signal, ``(n,)``.
    remarks
        What a reader of results should know.
    """

    network: Network
    conventions: Conventions
    bins: tuple[Bin, ...]
    names: tuple[str, ...]
    base: FloatArray
    remarks: tuple[str, ...]

    @classmethod
    def of(
        cls, path: Path, workspace: Spec, poi: str, options: Mapping[str, Any] | None = None
    ) -> LearnedLikelihood:
        """Read a network for a background.

        Parameters
        ----------
        path
            ONNX file.
        workspace, poi
            Workspace of the exact fits, and its parameter of interest, whose samples are no
            background.
        options
            Fields of :class:`palletfit.learned.conventions.Conventions`, which take precedence over
            the metadata of the file.

        Raises
        ------
        ConfigError
            Neither metadata nor options say what an input or output is.
        PalletError
            The file is no network, or one of another likelihood.
        """
        network = Network.read(path)
        conventions = conventions_of(network.metadata, path, options)
        conventions = _with_named_outputs(conventions, network)
        bins = _bins(conventions, network, workspace)
        _check_outputs(conventions, network)
        if conventions.yields is None:
            raise ConfigError(
                "The network's file does not say if its inputs are yields of the signal, or of "
                "background and signal.",
                remedy="Say `signal` or `total` with `conventions.yields`.",
                file=path,
            )
        base, remarks = _base(conventions, bins, _without_signal(workspace, poi), path)
        conventions.input_scaling.check_length(len(bins), "inputs", path)
        conventions.output_scaling.check_length(len(conventions.outputs), "outputs", path)
        remarks = (*remarks, *_unseen(bins, workspace))
        names = tuple(_names(conventions, bins))
        _by_bin(conventions.ranges, "ranges", bins, names, path)  # before any fit
        return cls(network, conventions, bins, names, base, remarks)

    def nlls(self, signals: FloatArray) -> dict[str, FloatArray]:
        """Compute the NLLs of signals.

        Parameters
        ----------
        signals
            Expected events of the signal by input, ``(N, n)``.

        Returns
        -------
        dict
            By name, ``(N,)``; NaN where the network gives no number. With `differences` and without
            the NLL at zero they are differences.
        """
        conventions = self.conventions
        features = conventions.input_scaling.scaled(self.base + signals)
        # By column: files may sort their keys, and the scaling has numbers in a fixed order.
        names = sorted(conventions.outputs, key=lambda name: conventions.outputs[name])
        columns = [conventions.outputs[name] for name in names]
        values = conventions.output_scaling.unscaled(self.network(features)[:, columns])
        if conventions.twice:
            values = values / 2
        nlls = dict(zip(names, values.T, strict=True))
        for name, zero in conventions.zeros.items():
            nlls.setdefault(name, np.full(len(signals), zero))
        if conventions.differences:
            for name in nlls:
                if name.endswith("_1"):
                    nlls[name] = nlls[name] + nlls.get(_at_zero(name), 0.0)
        return nlls

    @cached_property
    def differences(self) -> frozenset[str]:
        """Names of NLLs of which only the difference to the one at zero is known."""
        names = {*self.conventions.outputs, *self.conventions.zeros}
        if not self.conventions.differences:
            return frozenset()
        return frozenset(
            name for name in names if name.endswith("_1") and _at_zero(name) not in names
        )

    @cached_property
    def ranges(self) -> FloatArray | None:
        """Range of each input's signal in the training, ``(n, 2)``; None if it is not known."""
        by_bin = _by_bin(
            self.conventions.ranges, "ranges", self.bins, self.names, self.network.path
        )
        if not by_bin:
            return None
        pairs = [by_bin.get(entry, (-np.inf, np.inf)) for entry in self.bins]
        return np.array(pairs) - self.base[:, None]

    def outside(self, signals: FloatArray) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
        """Say which signals are outside of the training range; None if it is not known."""
        if self.ranges is None:
            return None
        low, high = self.ranges.T
        room = 1e-9 * np.maximum(np.abs(self.base), 1.0)
        return np.asarray(np.any((signals < low - room) | (signals > high + room), axis=1))


def signals_of(
    workspace: Spec, patches: Iterable[Patch], poi: str, bins: Sequence[Bin]
) -> dict[str, FloatArray | PalletfitError]:
    """Compute the expected events of the signals of patches in bins.

    They are the sums of the samples that the parameter of interest multiplies, before any fit.

    Returns
    -------
    dict
        By name of the patch ``(n,)``; an error where the patch does not apply, or removes one of
        the channels.
    """
    signals: dict[str, FloatArray | PalletfitError] = {}
    for patch in patches:
        try:
            signals[patch.name] = _signal(workspace, patch, poi, bins)
        except PalletfitError as error:
            signals[patch.name] = error
    return signals


def _signal(workspace: Spec, patch: Patch, poi: str, bins: Sequence[Bin]) -> FloatArray:
    events: dict[str, FloatArray] = {}
    for channel in apply_sharing(workspace, patch)["channels"]:
        size = len(channel["samples"][0]["data"]) if channel["samples"] else 0
        signals = [sample["data"] for sample in channel["samples"] if _carries(sample, poi)]
        events[channel["name"]] = np.sum([np.zeros(size), *signals], axis=0)
    for channel, number in bins:
        if channel not in events or number >= len(events[channel]):
            raise PalletError(
                f"The patch removes the channel {channel!r}, which the network takes.",
                remedy="Compare this network with points that keep the channel.",
                patch=patch.name or None,
            )
    return np.array([events[channel][number] for channel, number in bins])


def _carries(sample: Spec, poi: str) -> bool:
    return any(entry["name"] == poi and entry["type"] == NORM for entry in sample["modifiers"])


# --------------------------------------------------------------------------- inputs


def _bins(conventions: Conventions, network: Network, workspace: Spec) -> tuple[Bin, ...]:
    """Find the bin of each input."""
    sizes = {entry["name"]: len(entry["data"]) for entry in workspace["observations"]}
    if conventions.inputs is None:
        count = sum(sizes.values())
        raise ConfigError(
            f"The network's file does not say which bins its {network.width} inputs are.",
            remedy="Name them in their order with `conventions.inputs`: channels, or bins as "
            f"CHANNEL[BIN]. The workspace has {count} bins in {_listed(sizes)}.",
            file=network.path,
        )
    bins = [entry for name in conventions.inputs for entry in _of_name(name, sizes, network.path)]
    twice = {entry for entry in bins if bins.count(entry) > 1} if len(bins) < 1000 else set()
    if twice or len({*bins}) != len(bins):
        channel, number = min(twice or bins)
        raise PalletError(
            f"Two inputs are the bin {channel}[{number}].",
            remedy="Correct `conventions.inputs`, or the metadata of the network.",
            file=network.path,
        )
    if len(bins) != network.width:
        raise PalletError(
            f"The network has {network.width} inputs, and {len(bins)} bins are named for them.",
            remedy="Give the workspace that it was trained for, or name the bins with "
            "`conventions.inputs`.",
            file=network.path,
        )
    return tuple(bins)


def _of_name(name: str, sizes: Mapping[str, int], path: Path) -> list[Bin]:
    """Read one name: a bin, or all bins of channels."""
    if name in sizes:
        return [(name, number) for number in range(sizes[name])]
    channel, number = _split(name)
    if channel in sizes and number is not None and number < sizes[channel]:
        return [(channel, number)]
    patterns = [other for other in sizes if fnmatchcase(other, name)]
    if patterns:
        return [(other, number) for other in patterns for number in range(sizes[other])]
    if channel in sizes:
        problem = f"has {sizes[channel]} bins, which count from zero"
        remedy = "Give the workspace that the network was trained for."
    else:
        problem = "is no channel of the workspace"
        remedy = f"{did_you_mean(channel, sizes)}Its channels are {_listed(sizes)}."
    raise PalletError(
        f"The network takes {printable(name)[:100]!r}, but {printable(channel)[:100]!r} {problem}.",
        remedy=f"{remedy} `conventions.inputs` names the bins in the order of the inputs.",
        file=path,
    )


def _split(name: str) -> tuple[str, int | None]:
    """Part a channel from the number of its bin: ``CHANNEL[BIN]`` or ``CHANNEL-BIN``."""
    channel, mark, number = name.removesuffix("]").rpartition("[" if name[-1:] == "]" else "-")
    if mark and number.isdecimal() and len(number) <= 6:
        return channel, int(number)
    return name, None


def _by_bin(
    values: Mapping[str, Value], of: str, bins: Sequence[Bin], names: Sequence[str], path: Path
) -> dict[Bin, Value]:
    """Find the bins of values by input; a bin takes precedence over its channel.

    Raises
    ------
    ConfigError
        A name is that of no input.
    """
    inputs = dict(zip(names, bins, strict=True))
    for channel, number in bins:
        inputs |= {f"{channel}[{number}]": (channel, number)}
        inputs |= {f"{channel}-{number}": (channel, number)}
    of_channels: dict[Bin, Value] = {}
    of_bins: dict[Bin, Value] = {}
    for name, value in values.items():
        channel_bins = [entry for entry in bins if entry[0] == name]
        if channel_bins:
            of_channels |= dict.fromkeys(channel_bins, value)
        elif name in inputs:
            of_bins[inputs[name]] = value
        else:
            raise ConfigError(
                f"`{of}` has {printable(name)[:100]!r}, which is no input.",
                remedy=f"{did_you_mean(name, names)}Correct `{of}` in the conventions, or the "
                "metadata of the network.",
                file=path,
            )
    return {**of_channels, **of_bins}


def _base(
    conventions: Conventions, bins: Sequence[Bin], workspace: Spec, path: Path
) -> tuple[FloatArray, tuple[str, ...]]:
    """Give the events of inputs without signal, and say if they are of another background."""
    if conventions.yields == "signal":
        return np.zeros(len(bins)), ()
    observed = {entry["name"]: entry["data"] for entry in workspace["observations"]}
    filled = {channel["name"] for channel in workspace["channels"]}
    expected = {
        entry["name"]: entry["data"] if entry["name"] in filled else [0.0] * len(entry["data"])
        for entry in with_expected_data(workspace)["observations"]
    }
    names = _names(conventions, bins)
    background = _by_bin(conventions.background, "background", bins, names, path)
    base, different = [], []
    for channel, number in bins:
        nominal = expected[channel][number]
        stated = background.get((channel, number), nominal)
        references = (nominal, observed[channel][number])
        if all(
            abs(stated - value) > _OTHER_BACKGROUND * max(abs(value), 1) for value in references
        ):
            different.append(f"{channel}[{number}] ({stated:.4g}, not {nominal:.4g})")
        base.append(stated)
    if not different:
        return np.array(base), ()
    remark = f"the network's file has another background than the workspace: {_listed(different)}"
    return np.array(base), (remark,)


def _without_signal(workspace: Spec, poi: str) -> Spec:
    """Leave out the samples that the parameter of interest multiplies."""
    channels = [
        {**channel, "samples": [entry for entry in channel["samples"] if not _carries(entry, poi)]}
        for channel in workspace["channels"]
    ]
    return {**workspace, "channels": [channel for channel in channels if channel["samples"]]}


def _names(conventions: Conventions, bins: Sequence[Bin]) -> list[str]:
    """Name inputs as metadata do, whose names are one a bin."""
    names = conventions.inputs or []
    return names if len(names) == len(bins) else [f"{channel}[{bin_}]" for channel, bin_ in bins]


def _unseen(bins: Sequence[Bin], workspace: Spec) -> tuple[str, ...]:
    """Say which bins of the fit are no inputs."""
    bins_of_fit = [
        (entry["name"], number)
        for entry in workspace["observations"]
        for number in range(len(entry["data"]))
    ]
    missing = [
        f"{channel}[{number}]" for channel, number in bins_of_fit if (channel, number) not in bins
    ]
    if not missing:
        return ()
    return (f"the exact fits have bins that are no inputs of the network: {_listed(missing)}",)


def _listed(names: Iterable[str]) -> str:
    shown = [printable(name)[:100] for name in names]
    more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    return ", ".join(shown[:_LISTED]) + more


# --------------------------------------------------------------------------- outputs


def _with_named_outputs(conventions: Conventions, network: Network) -> Conventions:
    """Take the outputs whose own names are those of NLLs, where nothing else is said."""
    from palletfit.config import NLL_COLUMNS

    if conventions.outputs:
        return conventions
    columns = {name: network.column_of(name) for name in NLL_COLUMNS}
    named = {name: column for name, column in columns.items() if column is not None}
    return conventions.model_copy(update={"outputs": named})


def _check_outputs(conventions: Conventions, network: Network) -> None:
    if not conventions.outputs:
        raise ConfigError(
            f"The network's file does not say which NLLs its {network.columns} outputs are.",
            remedy="Name their columns with `conventions.outputs`, such as nll_obs_1=0 and "
            "nllA_obs_1=1; columns count from zero.",
            file=network.path,
        )
    for name, column in conventions.outputs.items():
        if column >= network.columns:
            raise PalletError(
                f"{name} is said to be in column {column}, and the network has {network.columns} "
                "columns of outputs, which count from zero.",
                remedy="Correct `conventions.outputs`, or the metadata of the network.",
                file=network.path,
            )


def _at_zero(name: str) -> str:
    return f"{name.removesuffix('_1')}_0"
