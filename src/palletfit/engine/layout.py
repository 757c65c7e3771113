"""The columns of all parameters of workspaces of one shape, and the arrays of shared samples.

The letters of axes are those of :mod:`palletfit.engine.samples`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.core.arrays import FloatArray
from palletfit.engine.interpcodes import Code
from palletfit.engine.samples import ALPHA, LUMI, NORM, Sample, Unsupported, bin_modifiers, kinds_of

#: Numbers in the arrays of one layout, with one patch: 2 GiB.
_LARGEST_SIZE = 2**28


@dataclass(frozen=True)
class Extra:
    """Numbers of columns that patches need for parameters that the shared samples do not have.

    Their names may differ from patch to patch, so that only their number counts.
    """

    alphas: int = 0
    #: Names of shared alphas that only patches use in histosys, and in normsys modifiers.
    hist: tuple[str, ...] = ()
    norm: tuple[str, ...] = ()
    norms: int = 0
    lumis: int = 0
    #: Samples that patches add to each channel, at most.
    samples: tuple[int, ...] = ()
    #: Bin parameters that patches add to each channel (name by name, in order), at most.
    bins: tuple[int, ...] = ()
    #: Names of shape factors that patches add; they may couple channels.
    shapefactors: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Block:
    """Channels with the same number of bins.

    Attributes
    ----------
    channels
        Positions in the layout's channels.
    bins
        Number of bins, N.
    added
        Samples that patches may add to each channel.
    slots
        Column of each bin parameter, counted from the first bin parameter; the number of those
        where a slot is empty. Shape ``(C, N, T)``.
    shared
        Arrays of the shared samples, see :func:`empty_part`.
    """

    channels: tuple[int, ...]
    bins: int
    added: int
    slots: NDArray[np.int64]
    shared: dict[str, Any]

    @property
    def all_bins(self) -> bool:
        """True if every bin has one parameter of its own, which multiplies all shared samples."""
        mask = self.shared["bins"]
        return mask.shape[-1] == 1 and bool(np.all(mask > 0))


class Layout:
    """The columns of all parameters of one shape, and its shared arrays.

    Columns are, in this order: alphas with histosys modifiers only, with both, with normsys
    modifiers only; the parameter of interest and other normfactors and lumi; bin parameters.

    Parameters
    ----------
    channels
        Names and numbers of bins, in pyhf's order.
    samples
        Names and content of the shared samples of each channel.
    poi
        Name of the parameter of interest.
    codes
        Interpolation codes of normsys and histosys modifiers that do not name theirs.
    extra
        Columns for parameters that the shared samples do not have.

    Raises
    ------
    Unsupported
        The arrays would take too much memory, or a parameter has two interpolation codes.

    Attributes
    ----------
    sample_names
        Names of the shared samples of each channel.
    hist, norm
        Numbers of alphas with histosys modifiers (the first ones) and with normsys modifiers (the
        last ones).
    alphas, factors, locals
        Numbers of columns of each kind.
    poi
        Column of the parameter of interest.
    codes
        Interpolation codes of normsys and histosys modifiers: one for all columns, or a tuple with
        one for each.
    blocks
        Channels by number of bins.
    bin_order
        For each bin, in the order of the blocks, its position in pyhf's order.
    """

    def __init__(
        self,
        channels: tuple[tuple[str, int], ...],
        samples: Sequence[Sequence[tuple[str, Sample]]],
        poi: str,
        codes: tuple[str, str],
        extra: Extra,
    ) -> None:
        self.channels, self.extra = channels, extra
        self.sample_names = tuple(tuple(name for name, _ in pairs) for pairs in samples)
        self.samples = [[sample for _, sample in pairs] for pairs in samples]
        self.kinds = kinds_of(sample for samples in self.samples for sample in samples)
        all_samples = [sample for samples in self.samples for sample in samples]
        histosys = {name for sample in all_samples for name in sample.hist_names} | {*extra.hist}
        normsys = {name for sample in all_samples for name in sample.norm_names} | {*extra.norm}
        extra_alphas = [role_name(ALPHA, number) for number in range(extra.alphas)]
        names = [
            *sorted(histosys - normsys),
            *sorted(histosys & normsys),
            *extra_alphas,
            *sorted(normsys - histosys),
        ]
        self.histosys, self.normsys = histosys, normsys
        self.hist = len(histosys) + extra.alphas
        self.norm = len(normsys) + extra.alphas
        self.alphas = len(names)
        self._defaults = codes
        self._named_codes = _named_codes(all_samples)
        self.codes: tuple[Any, Any] = (
            self._code("normsys", names[self.alphas - self.norm :]),
            self._code("histosys", names[: self.hist]),
        )
        factors = {name: kind for sample in all_samples for name, kind in sample.factors}
        self.poi = len(names)
        names.append("")
        names += sorted(name for name in factors if name != poi)
        names += [role_name(NORM, number) for number in range(extra.norms)]
        names += [role_name(LUMI, number) for number in range(extra.lumis)]
        self.factors = len(names) - self.alphas
        self.column = {name: index for index, name in enumerate(names)}
        self.shared_poi = poi if poi in factors else None
        if self.shared_poi is not None:
            self.column[self.shared_poi] = self.poi
        self._number_bins()
        self._check_size()
        self.blocks = tuple(self._blocks())
        self._number_slots()
        starts = np.cumsum([0, *(bins for _, bins in self.channels)])
        self.bin_order = np.concatenate(
            [
                starts[channel] + np.arange(block.bins)
                for block in self.blocks
                for channel in block.channels
            ]
        ).astype(int)

    @property
    def parameters(self) -> int:
        """Number of columns, K."""
        return self.alphas + self.factors + self.locals

    @property
    def size(self) -> int:
        """Numbers in the largest temporary arrays of one fit: Jacobian, Hessian, slopes."""
        bins = sum(bins for _, bins in self.channels)
        rows = sum(
            len(block.channels) * (block.added + block.shared["nominal"].shape[1])
            for block in self.blocks
        )
        derivatives = self.parameters * (bins + self.parameters)
        return derivatives + int(rows) * (self.norm + self.factors)

    def local(self, kind: str, name: str, channel: int | None, number: int) -> int:
        """Column of a bin parameter."""
        return self.alphas + self.factors + self.local_column[kind, name, channel, number]

    def _code(self, kind: str, names: Sequence[str]) -> Code:
        """Give the interpolation code of parameters: one if all have the same."""
        codes = tuple(self._code_of(kind, name) for name in names)
        default = self._defaults[0] if kind == "normsys" else self._defaults[1]
        if len(set(codes)) > 1:
            return codes
        return codes[0] if codes else default

    def _code_of(self, kind: str, name: str) -> str:
        default = self._defaults[0] if kind == "normsys" else self._defaults[1]
        return self._named_codes.get((kind, name), default)

    def check_codes(self, sample: Sample) -> None:
        """Refuse a patch's sample whose interpolation is not that of its parameter's column."""
        for kind, name, code in _codes_of(sample):
            if code != self._code_of(kind, name):
                raise Unsupported(
                    f"the {kind} {name!r} of a patch has the interpolation {code}, where its "
                    f"parameter has {self._code_of(kind, name)}"
                )

    def _number_bins(self) -> None:
        """Give each bin parameter a column, and each bin a list of its parameters."""
        #: Columns of bin parameters by (kind, name, channel or None, bin).
        self.local_column: dict[tuple[str, str, int | None, int], int] = {}
        #: Columns of each (channel, bin), in the order of its slots, with the number of the slot.
        self.in_bin: dict[tuple[int, int], dict[int, int]] = {}

        def add(kind: str, name: str, channel: int) -> None:
            for number in range(self.channels[channel][1]):
                key = kind, name, None if kind == "shapefactor" else channel, number
                column = self.local_column.setdefault(key, len(self.local_column))
                slots = self.in_bin.setdefault((channel, number), {})
                slots.setdefault(column, len(slots))

        for channel, samples in enumerate(self.samples):
            for sample in samples:
                for kind, name in bin_modifiers(sample):
                    add(kind, name, channel)
        for channel, count in enumerate(self.extra.bins):
            for number in range(count):
                add("extra", role_name("bin", number), channel)
        for name, channel in self.extra.shapefactors:
            add("shapefactor", name, channel)
        self.locals = len(self.local_column)

    def _number_slots(self) -> None:
        """Say how the slots of all bins, one after the other, become columns."""
        owner = np.concatenate([block.slots.ravel() for block in self.blocks])
        real = np.flatnonzero(owner < self.locals)
        depths = [block.slots.shape[2] for block in self.blocks]
        bins = [len(block.channels) * block.bins for block in self.blocks]
        bin_of_slot = np.repeat(np.arange(sum(bins)), np.repeat(depths, bins))
        self._slot_owner = owner
        #: The slots in use, their bins, and their columns counted from the first bin parameter.
        self.real_slots, self.slot_bin, self.slot_column = real, bin_of_slot[real], owner[real]
        #: Every bin parameter stands in one bin.
        self._own_bins = len(real) == self.locals
        self.slot_of_column = real[np.argsort(owner[real])] if self._own_bins else real

    # The two matrices below grow with the square of the number of bin parameters, so they are made
    # only for the fits that need them.

    @cached_property
    def slot_sums(self) -> FloatArray | None:
        """Zeros and ones that sum slots to columns, ``(slots, L)``; None if no column has two."""
        if self._own_bins:
            return None
        sums: FloatArray = (self._slot_owner[:, None] == np.arange(self.locals)).astype(float)
        return sums

    @cached_property
    def slot_pairs(self) -> NDArray[np.int64]:
        """Positions of the curvatures of pairs of columns (or slots); the last one holds a zero."""
        slots = len(self._slot_owner)
        pairs = np.full((slots, slots), -1)
        slot = pair = 0
        for block in self.blocks:
            depth = block.slots.shape[2]
            for _ in range(len(block.channels) * block.bins):
                span = slice(slot, slot + depth)
                pairs[span, span] = pair + np.arange(depth * depth).reshape(depth, depth)
                slot, pair = slot + depth, pair + depth * depth
        if self._own_bins:
            pairs = pairs[np.ix_(self.slot_of_column, self.slot_of_column)]
        return np.where(pairs < 0, pair, pairs)

    def by_column(self, by_slot: Any) -> Any:
        """From slots to columns, ``(L, slots, n)``; a parameter in several bins sums its slots."""
        sums = self.slot_sums
        return by_slot[:, self.slot_of_column] if sums is None else sums.T @ by_slot

    def _check_size(self) -> None:
        """Refuse arrays that would not fit into memory: they are dense in samples and columns."""
        numbers = 0
        for channels, bins, depth in self._block_shapes():
            shared = max(len(self.samples[channel]) for channel in channels)
            added = max((self.extra.samples[channel] for channel in channels), default=0)
            a_bin = 1 + 2 * self.hist + depth
            a_sample = bins * a_bin + 2 * self.norm + self.factors
            numbers += len(channels) * (shared + added) * a_sample
        if numbers > _LARGEST_SIZE:
            raise Unsupported(
                f"its arrays would hold {numbers} numbers, and the limit is {_LARGEST_SIZE}"
            )

    def _block_shapes(self) -> Iterator[tuple[tuple[int, ...], int, int]]:
        """Yield the channels of each block, their number of bins, and the slots of a bin."""
        for bins in sorted({bins for _, bins in self.channels}):
            channels = tuple(index for index, (_, size) in enumerate(self.channels) if size == bins)
            depth = max(
                (len(self.in_bin.get((c, n), ())) for c in channels for n in range(bins)),
                default=0,
            )
            yield channels, bins, depth

    def _blocks(self) -> Iterator[Block]:
        for channels, bins, depth in self._block_shapes():
            slots = np.full((len(channels), bins, depth), self.locals)
            for row, channel in enumerate(channels):
                for number in range(bins):
                    columns = list(self.in_bin.get((channel, number), ()))
                    slots[row, number, : len(columns)] = columns
            added = max((self.extra.samples[c] for c in channels), default=0)
            # One at least, of no effect: a patch's own samples may be switched off.
            samples = max(1, *(len(self.samples[c]) for c in channels))
            part = empty_part(self, len(channels), samples, bins, depth)
            for row, channel in enumerate(channels):
                for position, sample in enumerate(self.samples[channel]):
                    self.fill(part, (row, position), sample, channel, self.column, {})
            yield Block(channels, bins, added, slots, part)

    def fill(
        self,
        part: dict[str, Any],
        at: tuple[int, ...],
        sample: Sample,
        channel: int,
        column: Mapping[str, int],
        own_bins: Mapping[tuple[str, str], str],
    ) -> None:
        """Write one sample into a part's arrays at the leading indices `at`."""
        part["nominal"][at] = sample.nominal
        if sample.hist_names:
            columns = [column[name] for name in sample.hist_names]
            part["odd"][at][:, columns] = ((sample.hist_hi - sample.hist_lo) / 2).T
            part["even"][at][:, columns] = (
                (sample.hist_hi + sample.hist_lo) / 2 - sample.nominal
            ).T
        if sample.norm_names:
            first = self.alphas - self.norm
            columns = [column[name] - first for name in sample.norm_names]
            part["hi"][(*at, columns)] = sample.norm_hi
            part["lo"][(*at, columns)] = sample.norm_lo
        for name, _ in sample.factors:
            part["factors"][(*at, column[name] - self.alphas)] = 1.0
        for kind, name in bin_modifiers(sample):
            extra = own_bins.get((kind, name))
            for number in range(len(sample.nominal)):
                if extra is not None:
                    key: tuple[str, str, int | None, int] = ("extra", extra, channel, number)
                else:
                    key = kind, name, None if kind == "shapefactor" else channel, number
                slot = self.in_bin[channel, number][self.local_column[key]]
                part["bins"][(*at, number, slot)] = 1.0


def _codes_of(sample: Sample) -> Iterator[tuple[str, str, str]]:
    """Yield type, name and interpolation code of the modifiers that have one."""
    for name, code in zip(sample.norm_names, sample.norm_codes, strict=True):
        yield "normsys", name, code
    for name, code in zip(sample.hist_names, sample.hist_codes, strict=True):
        yield "histosys", name, code


def _named_codes(samples: Sequence[Sample]) -> dict[tuple[str, str], str]:
    """Give the interpolation codes of parameters by type and name."""
    codes: dict[tuple[str, str], str] = {}
    for kind, name, code in (entry for sample in samples for entry in _codes_of(sample)):
        if codes.setdefault((kind, name), code) != code:
            raise Unsupported(
                f"the {kind} {name!r} has the interpolation {codes[kind, name]} in one sample and "
                f"{code} in another"
            )
    return codes


def role_name(kind: str, number: int) -> str:
    """Name the column of a parameter whose name differs from patch to patch."""
    # No modifier has such a name: it stands for the names of different patches.
    return f"\0{kind} {number}"


def empty_part(layout: Layout, *leading: int) -> dict[str, Any]:
    """Arrays for samples, of no effect.

    nominal ``(…, C, S, N)``; odd and even ``(…, C, S, N, hist)``; hi and lo ``(…, C, S, norm)``;
    factors ``(…, C, S, factors)`` and bins ``(…, C, S, N, T)``: one where the parameter multiplies.
    """
    *outer, bins, depth = leading
    return {
        "nominal": np.zeros((*outer, bins)),
        "odd": np.zeros((*outer, bins, layout.hist)),
        "even": np.zeros((*outer, bins, layout.hist)),
        "hi": np.ones((*outer, layout.norm)),
        "lo": np.ones((*outer, layout.norm)),
        "factors": np.zeros((*outer, layout.factors)),
        "bins": np.zeros((*outer, bins, depth)),
    }
