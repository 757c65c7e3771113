"""From workspaces to arrays: a background lowered once, and each patch as a slice.

All patches of a pallet share most samples. A :class:`Background` reads those once; a
:class:`Lowered` batch holds them as arrays together with one slice for each of some patches that
have the same shape: signal samples, widths of constraints, settings of parameters, data.

The conventions (which parameters there are, their constraints, bounds and data) are pyhf 0.7's.

Axes are named by letters: P patches, B bins, K parameters; a *block* holds the channels that have
the same number of bins, with C channels, S samples, N bins, and T bin parameters in each bin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.config import FitSettings
from palletfit.engine.interpcodes import FloatArray

Spec = Mapping[str, Any]

#: Kinds of parameters.
_ALPHA, _NORM, _LUMI = "alpha", "normfactor", "lumi"
_BIN_KINDS = ("staterror", "shapesys", "shapefactor")
#: What a measurement may say about a parameter of each kind (more makes pyhf refuse the model).
_CONFIGURABLE = {
    _ALPHA: {"inits", "bounds", "fixed", "auxdata"},
    _NORM: {"inits", "bounds", "fixed"},
    _LUMI: {"inits", "bounds", "fixed", "auxdata", "sigmas"},
    "staterror": {"inits", "bounds", "fixed", "auxdata", "sigmas"},
    "shapesys": {"inits", "bounds", "fixed", "auxdata", "factors"},
    "shapefactor": {"inits", "bounds", "fixed"},
}


class Unsupported(Exception):  # noqa: N818  not an error: another engine takes over
    """What this engine does not fit, with the reason; pyhf decides whether anything can."""


# --------------------------------------------------------------------------- samples


@dataclass(frozen=True)
class Sample:
    """The terms of one sample in one channel.

    Attributes
    ----------
    nominal
        Shape ``(N,)``.
    hist_names, hist_lo, hist_hi
        histosys modifiers, shape ``(n, N)``.
    norm_names, norm_lo, norm_hi
        normsys modifiers, shape ``(n,)``.
    factors
        Names of normfactor and lumi modifiers with their kind.
    staterror, shapesys, shapefactor
        Names of the modifiers, the former two with their absolute uncertainties.
    """

    nominal: FloatArray
    hist_names: tuple[str, ...]
    hist_lo: FloatArray
    hist_hi: FloatArray
    norm_names: tuple[str, ...]
    norm_lo: FloatArray
    norm_hi: FloatArray
    factors: tuple[tuple[str, str], ...]
    staterror: tuple[tuple[str, FloatArray], ...]
    shapesys: tuple[tuple[str, FloatArray], ...]
    shapefactor: tuple[str, ...]

    @property
    def alphas(self) -> Iterator[str]:
        """Names of all interpolated modifiers, some twice."""
        yield from self.hist_names
        yield from self.norm_names


def read_sample(spec: Spec) -> Sample:
    """Read a sample's modifiers.

    Raises
    ------
    Unsupported
        Lengths do not fit, a type is unknown, or a normsys factor is not positive.
    """
    nominal = np.asarray(spec["data"], dtype=float)
    # Of two modifiers with one type and name pyhf keeps the last.
    found: dict[tuple[str, str], Any] = {}
    for modifier in spec["modifiers"]:
        kind, name = modifier["type"], modifier["name"]
        if kind == "shapesys" and (kind, name) in found:
            raise Unsupported(f"the shapesys {name!r} stands twice in one sample")
        found[kind, name] = modifier.get("data")
    kinds: dict[str, list[tuple[str, Any]]] = {
        kind: [] for kind in ("histosys", "normsys", "normfactor", "lumi", *_BIN_KINDS)
    }
    for (kind, name), data in found.items():
        if kind not in kinds:
            raise Unsupported(f"the modifier type {kind!r} of {name!r} is unknown")
        kinds[kind].append((name, data))
    size = len(nominal)
    if not np.all(np.isfinite(nominal)):
        raise Unsupported("a yield is not finite")
    normsys = np.array(
        [(data["lo"], data["hi"]) for _, data in kinds["normsys"]], dtype=float
    ).reshape(-1, 2)
    if not np.all((normsys > 0) & (normsys < np.inf)):
        raise Unsupported("a normsys factor is not above zero and finite")
    return Sample(
        nominal=nominal,
        hist_names=tuple(name for name, _ in kinds["histosys"]),
        hist_lo=_table([data["lo_data"] for _, data in kinds["histosys"]], size),
        hist_hi=_table([data["hi_data"] for _, data in kinds["histosys"]], size),
        norm_names=tuple(name for name, _ in kinds["normsys"]),
        norm_lo=normsys[:, 0],
        norm_hi=normsys[:, 1],
        factors=tuple((name, kind) for kind in (_NORM, _LUMI) for name, _ in kinds[kind]),
        staterror=tuple((name, _table([data], size)[0]) for name, data in kinds["staterror"]),
        shapesys=tuple((name, _table([data], size)[0]) for name, data in kinds["shapesys"]),
        shapefactor=tuple(name for name, _ in kinds["shapefactor"]),
    )


def _table(rows: Sequence[Any], size: int) -> FloatArray:
    if not rows:
        return np.zeros((0, size))
    try:
        table = np.asarray(rows, dtype=float)
    except (TypeError, ValueError):
        raise Unsupported("a modifier's data are not one number a bin") from None
    if table.shape != (len(rows), size):
        raise Unsupported("a modifier has another number of bins than its sample")
    if not np.all(np.isfinite(table)):
        raise Unsupported("a number of a modifier is not finite")
    return table


# --------------------------------------------------------------------------- parameters


@dataclass(frozen=True)
class ParameterSet:
    """Settings of the components of one parameter, as pyhf would have them; shape ``(n,)``.

    `precision` is one over the variance of a Gaussian constraint, `factor` the expected count of
    a Poisson constraint at one; both are zero where there is no such constraint.
    """

    init: FloatArray
    lower: FloatArray
    upper: FloatArray
    fixed: NDArray[np.bool_]
    aux: FloatArray
    precision: FloatArray
    factor: FloatArray


def _parameter_set(
    name: str,
    kind: str,
    size: int,
    user: Spec,
    *,
    sigmas: FloatArray | None = None,
    factors: FloatArray | None = None,
    fixed: NDArray[np.bool_] | None = None,
) -> ParameterSet:
    """Merge pyhf's defaults for a kind of parameter with what the measurement says."""
    unknown = set(user) - _CONFIGURABLE[kind] - {"name"}
    if unknown:
        raise Unsupported(f"the measurement sets {sorted(unknown)} of {name!r}")
    bounds, init, centre = {
        _ALPHA: ((-5.0, 5.0), 0.0, 0.0),
        _NORM: ((0.0, 10.0), 1.0, None),
        _LUMI: (None, None, None),
        "staterror": ((1e-10, 10.0), 1.0, 1.0),
        "shapesys": ((1e-10, 10.0), 1.0, None),
        "shapefactor": ((0.0, 10.0), 1.0, None),
    }[kind]

    def get(key: str, default: Any, *more: int) -> FloatArray:
        return _numbers(name, key, user.get(key, default), (size, *more))

    limits = get("bounds", None if bounds is None else [bounds] * size, 2)
    if np.any(limits[:, 0] > limits[:, 1]):
        raise Unsupported(f"a lower bound of {name!r} is above the upper one")
    none = np.zeros(size)
    aux, precision, factor = none, none, none
    if kind == "shapesys":
        factor = get("factors", factors)
        aux = get("auxdata", factors)
        if not np.all(factor > 0) or not np.all(aux >= 0):
            raise Unsupported(f"a factor of {name!r} is not above zero, or its data are below")
    elif kind in (_ALPHA, _LUMI, "staterror"):
        aux = get("auxdata", None if centre is None else [centre] * size)
        widths = get("sigmas", np.ones(size) if sigmas is None else sigmas)
        if not np.all(widths > 0):
            raise Unsupported(f"a width of {name!r} is not above zero")
        precision = widths**-2.0
    held = user.get("fixed", fixed)
    if held is not fixed and not isinstance(held, bool):
        raise Unsupported(f"the measurement's 'fixed' of {name!r} is neither true nor false")
    return ParameterSet(
        init=get("inits", None if init is None else [init] * size),
        lower=limits[:, 0],
        upper=limits[:, 1],
        fixed=np.broadcast_to(np.asarray(held, dtype=bool), (size,)),
        aux=aux,
        precision=precision,
        factor=factor,
    )


def _numbers(name: str, key: str, value: Any, shape: tuple[int, ...]) -> FloatArray:
    """What a measurement says about a parameter, as an array."""
    if value is None:
        raise Unsupported(f"the measurement does not set {key!r} of {name!r}")
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.shape != shape or not np.all(np.isfinite(array)):
        raise Unsupported(f"the measurement's {key!r} of {name!r} do not fit")
    return array


def _user_settings(measurement: Spec) -> dict[str, Spec]:
    settings: dict[str, Spec] = {}
    for item in measurement["config"]["parameters"]:
        if item["name"] in settings:
            raise Unsupported(f"the measurement configures {item['name']!r} twice")
        settings[item["name"]] = item
    return settings


# --------------------------------------------------------------------------- one workspace


@dataclass(frozen=True)
class _Reading:
    """One patch's full workspace, split into what it shares with the background and the rest."""

    channels: tuple[tuple[str, int], ...]
    shared: tuple[tuple[str, ...], ...]
    own: tuple[tuple[tuple[str, Sample], ...], ...]
    data: FloatArray
    user: dict[str, Spec]
    poi: str

    @property
    def shape(self) -> tuple[Any, ...]:
        """Patches that agree in this are lowered together."""
        return self.channels, self.shared, self.poi


class Background:
    """A background-only workspace, read once.

    Parameters
    ----------
    workspace
        As published. It must not change while this object lives.
    settings
        Measurement and interpolation codes.
    """

    def __init__(self, workspace: Spec, settings: FitSettings) -> None:
        self.settings = settings
        self.workspace = workspace
        self._specs = {
            (channel["name"], sample["name"]): sample
            for channel in workspace["channels"]
            for sample in channel["samples"]
        }
        self._samples: dict[tuple[str, str], Sample] = {}
        self._layouts: dict[Any, Layout] = {}

    def sample(self, channel: str, name: str) -> Sample:
        """A sample of the background."""
        key = channel, name
        if key not in self._samples:
            self._samples[key] = read_sample(self._specs[key])
        return self._samples[key]

    def read(self, spec: Spec) -> _Reading:
        """Read a full workspace; samples that are the background's own are not read again.

        Raises
        ------
        Unsupported
            See :func:`read_sample`; also if observed counts are not finite or below zero.
        """
        channels, shared, own = [], [], []
        for channel in sorted(spec["channels"], key=lambda item: str(item["name"])):
            name = channel["name"]
            same, other = [], []
            for item in sorted(channel["samples"], key=lambda item: str(item["name"])):
                published = self._specs.get((name, item["name"]))
                if published is not None and _same(item, published):
                    same.append(item["name"])
                else:
                    other.append((item["name"], read_sample(item)))
            channels.append((name, len(channel["samples"][0]["data"])))
            shared.append(tuple(same))
            own.append(tuple(other))
        observed = {item["name"]: item["data"] for item in spec["observations"]}
        data = np.concatenate([np.asarray(observed[name], dtype=float) for name, _ in channels])
        if not np.all((data >= 0) & (data < np.inf)):
            raise Unsupported("an observed count is not finite, or below zero")
        measurement = _measurement(spec, self.settings.measurement)
        return _Reading(
            channels=tuple(channels),
            shared=tuple(shared),
            own=tuple(own),
            data=data,
            user=_user_settings(measurement),
            poi=measurement["config"]["poi"],
        )

    def lower(self, specs: Sequence[Spec]) -> tuple[list[Lowered], dict[int, str]]:
        """Lower full workspaces that share samples with this background.

        Parameters
        ----------
        specs
            From :func:`palletfit.pallet.patches.apply_sharing`.

        Returns
        -------
        tuple
            Batches of workspaces with one shape; and for those that are not supported, by
            position, the reason.
        """
        unsupported: dict[int, str] = {}
        groups: dict[Any, list[tuple[int, _Reading]]] = {}
        for index, spec in enumerate(specs):
            try:
                reading = self.read(spec)
                groups.setdefault(reading.shape, []).append((index, reading))
            except Unsupported as reason:
                unsupported[index] = str(reason)
            except (KeyError, IndexError, TypeError, ValueError) as error:
                unsupported[index] = f"something in it has another shape than it should ({error!r})"
        batches = []
        for group in groups.values():
            batch = _lower_group(self, group, unsupported)
            if batch is not None:
                batches.append(batch)
        return batches, unsupported

    def layout(self, reading: _Reading, extra: Extra) -> Layout:
        """The columns of parameters and the shared arrays of one shape, made once."""
        key = reading.shape, extra
        if key not in self._layouts:
            self._layouts[key] = Layout(self, reading, extra)
        return self._layouts[key]


def _same(sample: Spec, published: Spec) -> bool:
    """Whether two samples have the same content; quick where they share it."""
    if sample["modifiers"] is published["modifiers"] and sample["data"] is published["data"]:
        return True
    same: bool = sample == published
    return same


def _measurement(spec: Spec, name: str | None) -> Spec:
    for item in spec["measurements"]:
        if name is None or item["name"] == name:
            found: Spec = item
            return found
    raise Unsupported(f"there is no measurement {name!r}")


# --------------------------------------------------------------------------- columns


@dataclass(frozen=True)
class Extra:
    """How many columns patches need for parameters that the shared samples do not have.

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
    own
        Samples that patches may add to each channel.
    slots
        Column of each bin parameter, counted from the first bin parameter; the number of those
        where a slot is empty. Shape ``(C, N, T)``.
    shared
        Arrays of the shared samples, see :func:`_empty_part`.
    """

    channels: tuple[int, ...]
    bins: int
    own: int
    slots: NDArray[np.int64]
    shared: dict[str, Any]

    @property
    def all_bins(self) -> bool:
        """Whether every bin has one parameter of its own, which multiplies all shared samples."""
        mask = self.shared["bins"]
        return mask.shape[-1] == 1 and bool(np.all(mask > 0))


class Layout:
    """The columns of all parameters of one shape, and its shared arrays.

    Columns are, in this order: alphas with histosys modifiers only, with both, with normsys
    modifiers only; the parameter of interest and other normfactors and lumi; bin parameters.

    Attributes
    ----------
    channels
        Names and numbers of bins, in pyhf's order.
    sample_names
        Names of the shared samples of each channel.
    hist, norm
        Numbers of alphas with histosys modifiers (the first ones) and with normsys modifiers (the
        last ones).
    alphas, factors, locals
        Numbers of columns of each kind.
    poi
        Column of the parameter of interest.
    blocks
        Channels by number of bins.
    bin_order
        For each bin, in the order of the blocks, its position in pyhf's order.
    """

    def __init__(self, background: Background, reading: _Reading, extra: Extra) -> None:
        self.channels = reading.channels
        self.sample_names = reading.shared
        self.extra = extra
        self.codes = background.settings.normsys, background.settings.histosys
        self.samples = [
            [background.sample(channel, name) for name in names]
            for (channel, _), names in zip(reading.channels, reading.shared, strict=True)
        ]
        self.kinds = _kinds(sample for samples in self.samples for sample in samples)
        everything = [sample for samples in self.samples for sample in samples]
        histosys = {name for sample in everything for name in sample.hist_names} | {*extra.hist}
        normsys = {name for sample in everything for name in sample.norm_names} | {*extra.norm}
        extra_alphas = [_role(_ALPHA, number) for number in range(extra.alphas)]
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
        factors = {name: kind for sample in everything for name, kind in sample.factors}
        self.poi = len(names)
        names.append("")
        names += sorted(name for name in factors if name != reading.poi)
        names += [_role(_NORM, number) for number in range(extra.norms)]
        names += [_role(_LUMI, number) for number in range(extra.lumis)]
        self.factors = len(names) - self.alphas
        self.column = {name: index for index, name in enumerate(names)}
        self.shared_poi = reading.poi if reading.poi in factors else None
        if self.shared_poi is not None:
            self.column[self.shared_poi] = self.poi
        self._number_bins()
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
            len(block.channels) * (block.own + block.shared["nominal"].shape[1])
            for block in self.blocks
        )
        derivatives = self.parameters * (bins + self.parameters)
        return derivatives + int(rows) * (self.norm + self.factors)

    def local(self, kind: str, name: str, channel: int | None, number: int) -> int:
        """Column of a bin parameter."""
        return self.alphas + self.factors + self.local_column[kind, name, channel, number]

    def _number_bins(self) -> None:
        """Give each bin parameter a column, and each bin a list of its parameters."""
        #: Columns of bin parameters by (kind, name, channel or None, bin).
        self.local_column: dict[tuple[str, str, int | None, int], int] = {}
        in_bin: dict[tuple[int, int], list[int]] = {}

        def add(kind: str, name: str, channel: int) -> None:
            for number in range(self.channels[channel][1]):
                key = kind, name, None if kind == "shapefactor" else channel, number
                column = self.local_column.setdefault(key, len(self.local_column))
                columns = in_bin.setdefault((channel, number), [])
                if column not in columns:
                    columns.append(column)

        for channel, samples in enumerate(self.samples):
            for sample in samples:
                for kind, name in _bin_modifiers(sample):
                    add(kind, name, channel)
        for channel, count in enumerate(self.extra.bins):
            for number in range(count):
                add("extra", _role("bin", number), channel)
        for name, channel in self.extra.shapefactors:
            add("shapefactor", name, channel)
        self.locals = len(self.local_column)
        self.in_bin = in_bin

    def _number_slots(self) -> None:
        """Say how the slots of all bins, one after the other, become columns."""
        owner = np.concatenate([block.slots.ravel() for block in self.blocks])
        pairs = np.full((len(owner), len(owner)), -1)
        slot = pair = 0
        for block in self.blocks:
            depth = block.slots.shape[2]
            for _ in range(len(block.channels) * block.bins):
                span = slice(slot, slot + depth)
                pairs[span, span] = pair + np.arange(depth * depth).reshape(depth, depth)
                slot, pair = slot + depth, pair + depth * depth
        real = np.flatnonzero(owner < self.locals)
        depths = [block.slots.shape[2] for block in self.blocks]
        bins = [len(block.channels) * block.bins for block in self.blocks]
        bin_of_slot = np.repeat(np.arange(sum(bins)), np.repeat(depths, bins))
        #: The slots in use, their bins, and their columns counted from the first bin parameter.
        self.real_slots, self.slot_bin, self.slot_column = real, bin_of_slot[real], owner[real]
        self.slot_sums: FloatArray | None = None
        if len(real) == self.locals:
            # Every bin parameter stands in one bin.
            self.slot_of_column = real[np.argsort(owner[real])]
            pairs = pairs[np.ix_(self.slot_of_column, self.slot_of_column)]
        else:
            self.slot_of_column = real
            self.slot_sums = (owner[:, None] == np.arange(self.locals)).astype(float)
        #: Where the curvature of a pair of columns (or slots) is; the last place holds a zero.
        self.slot_pairs = np.where(pairs < 0, pair, pairs)

    def by_column(self, by_slot: Any) -> Any:
        """From slots to columns, ``(L, slots, n)``; a parameter in several bins sums its slots."""
        if self.slot_sums is None:
            return by_slot[:, self.slot_of_column]
        return self.slot_sums.T @ by_slot

    def _blocks(self) -> Iterator[Block]:
        for bins in sorted({bins for _, bins in self.channels}):
            channels = tuple(index for index, (_, size) in enumerate(self.channels) if size == bins)
            depth = max(
                (len(self.in_bin.get((c, n), ())) for c in channels for n in range(bins)),
                default=0,
            )
            slots = np.full((len(channels), bins, depth), self.locals)
            for row, channel in enumerate(channels):
                for number in range(bins):
                    columns = self.in_bin.get((channel, number), ())
                    slots[row, number, : len(columns)] = columns
            own = max((self.extra.samples[c] for c in channels), default=0)
            # One at least, of no effect: a patch's own samples may be switched off.
            samples = max(1, *(len(self.samples[c]) for c in channels))
            part = _empty_part(self, len(channels), samples, bins, depth)
            for row, channel in enumerate(channels):
                for position, sample in enumerate(self.samples[channel]):
                    self.fill(part, (row, position), sample, channel, slots[row], self.column, {})
            yield Block(channels, bins, own, slots, part)

    def fill(
        self,
        part: dict[str, Any],
        at: tuple[int, ...],
        sample: Sample,
        channel: int,
        slots: NDArray[np.int64],
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
        for kind, name in _bin_modifiers(sample):
            extra = own_bins.get((kind, name))
            for number in range(len(sample.nominal)):
                if extra is not None:
                    key: tuple[str, str, int | None, int] = ("extra", extra, channel, number)
                else:
                    key = kind, name, None if kind == "shapefactor" else channel, number
                local = self.local_column[key]
                slot = int(np.flatnonzero(slots[number] == local)[0])
                part["bins"][(*at, number, slot)] = 1.0


def _role(kind: str, number: int) -> str:
    # No modifier has such a name: it stands for the names of different patches.
    return f"\0{kind} {number}"


def _bin_modifiers(sample: Sample) -> Iterator[tuple[str, str]]:
    for name, _ in sample.staterror:
        yield "staterror", name
    for name, _ in sample.shapesys:
        yield "shapesys", name
    for name in sample.shapefactor:
        yield "shapefactor", name


def _kinds(samples: Iterator[Sample]) -> dict[str, str]:
    """Kind of each parameter by name."""
    kinds: dict[str, str] = {}
    for sample in samples:
        _merge_kinds(kinds, sample)
    return kinds


def _merge_kinds(kinds: dict[str, str], sample: Sample) -> None:
    found = [
        *((name, _ALPHA) for name in sample.alphas),
        *sample.factors,
        *((name, kind) for kind, name in _bin_modifiers(sample)),
    ]
    for name, kind in found:
        if kinds.setdefault(name, kind) != kind:
            raise Unsupported(f"{name!r} names a {kinds[name]} and a {kind}")


def _empty_part(layout: Layout, *leading: int) -> dict[str, Any]:
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


# --------------------------------------------------------------------------- batches of patches


@dataclass
class Lowered:
    """Patches of one shape as arrays.

    Attributes
    ----------
    layout
        What the columns are, and the shared arrays.
    index
        Positions of the patches in what was lowered, shape ``(P,)``.
    names
        For each patch the names of its parameters in pyhf's notation; None in columns of
        parameters that it does not have.
    parts
        For each block the arrays of the patches' own samples; ``(P, C, S, …)``.
    sample_names
        For each patch the names of its own samples in each channel.
    data
        Observed counts in the order of the blocks, ``(P, B)``.
    init, lower, upper, fixed, present, aux, precision, factor
        Settings of the parameters, ``(P, K)``, see :class:`ParameterSet`. A parameter that a patch
        does not have is not `present`, and fixed.
    """

    layout: Layout
    index: NDArray[np.int64]
    names: list[list[str | None]]
    parts: list[dict[str, Any]]
    sample_names: list[list[tuple[str, ...]]]
    data: FloatArray
    init: FloatArray
    lower: FloatArray
    upper: FloatArray
    fixed: NDArray[np.bool_]
    present: NDArray[np.bool_]
    aux: FloatArray
    precision: FloatArray
    factor: FloatArray

    def __len__(self) -> int:
        return len(self.index)

    def take(self, rows: NDArray[np.int64]) -> Lowered:
        """Some of the patches, any of them several times."""
        arrays = {
            name: getattr(self, name)[rows] for name in ("index", "data", "present", *_SETTINGS)
        }
        return Lowered(
            layout=self.layout,
            names=[self.names[row] for row in rows],
            sample_names=[self.sample_names[row] for row in rows],
            parts=[{name: part[name][rows] for name in part} for part in self.parts],
            **arrays,
        )


_SETTINGS = ("init", "lower", "upper", "fixed", "aux", "precision", "factor")


@dataclass
class _Own:
    """What one patch has beyond the shared samples."""

    alphas: list[str] = field(default_factory=list)
    hist: set[str] = field(default_factory=set)
    norm: set[str] = field(default_factory=set)
    norms: list[str] = field(default_factory=list)
    lumis: list[str] = field(default_factory=list)
    #: By channel: (kind, name) of its own staterror and shapesys modifiers.
    bins: list[list[tuple[str, str]]] = field(default_factory=list)
    shapefactors: list[tuple[str, int]] = field(default_factory=list)


def _lower_group(
    background: Background, group: list[tuple[int, _Reading]], unsupported: dict[int, str]
) -> Lowered | None:
    plain = None
    members: list[tuple[int, _Reading, _Own]] = []
    for index, reading in group:
        try:
            plain = plain or background.layout(reading, _no_extra(reading))
            members.append((index, reading, _own(plain, reading)))
        except Unsupported as reason:
            unsupported[index] = str(reason)
    if not members:
        return None
    channels = range(len(members[0][1].channels))
    extra = Extra(
        alphas=max(len(own.alphas) for _, _, own in members),
        hist=tuple(sorted(set[str]().union(*(own.hist for _, _, own in members)))),
        norm=tuple(sorted(set[str]().union(*(own.norm for _, _, own in members)))),
        norms=max(len(own.norms) for _, _, own in members),
        lumis=max(len(own.lumis) for _, _, own in members),
        samples=tuple(max(len(reading.own[c]) for _, reading, _ in members) for c in channels),
        bins=tuple(max(len(own.bins[c]) for _, _, own in members) for c in channels),
        shapefactors=tuple(sorted({item for _, _, own in members for item in own.shapefactors})),
    )
    layout = background.layout(members[0][1], extra)
    return _Filler(layout, members).fill(unsupported)


def _no_extra(reading: _Reading) -> Extra:
    none = (0,) * len(reading.channels)
    return Extra(samples=none, bins=none)


def _own(plain: Layout, reading: _Reading) -> _Own:
    """Find the parameters of a patch that the shared samples do not have."""
    kinds = dict(plain.kinds)
    samples = [sample for own in reading.own for _, sample in own]
    for sample in samples:
        _merge_kinds(kinds, sample)
    if kinds.get(reading.poi) != _NORM:
        raise Unsupported(f"the parameter of interest {reading.poi!r} is not a normfactor")
    fresh = sorted(set(kinds) - set(plain.kinds) - {reading.poi})
    hist = {name for sample in samples for name in sample.hist_names}
    norm = {name for sample in samples for name in sample.norm_names}
    own = _Own(
        alphas=[name for name in fresh if kinds[name] == _ALPHA],
        hist=hist - plain.histosys - set(fresh),
        norm=norm - plain.normsys - set(fresh),
        norms=[name for name in fresh if kinds[name] == _NORM],
        lumis=[name for name in fresh if kinds[name] == _LUMI],
    )
    if sum(kind == _LUMI for kind in kinds.values()) > 1:
        raise Unsupported("there is more than one lumi parameter")
    _check_shapesys(plain, samples)
    for channel, items in enumerate(reading.own):
        mine: set[tuple[str, str]] = set()
        for kind, name in (pair for _, sample in items for pair in _bin_modifiers(sample)):
            if kind == "shapefactor":
                known = plain.local_column.get((kind, name, None, 0), -1)
                if known not in plain.in_bin.get((channel, 0), ()):
                    own.shapefactors.append((name, channel))
            elif (kind, name, channel, 0) not in plain.local_column:
                if name in plain.kinds:
                    raise Unsupported(f"the {kind} {name!r} couples other channels, too")
                mine.add((kind, name))
        own.bins.append(sorted(mine))
    _check_staterrors(plain, reading)
    return own


def _check_shapesys(plain: Layout, samples: Sequence[Sample]) -> None:
    """No two samples may share a shapesys, or pyhf refuses them."""
    seen: set[str] = set()
    shared = (sample for of_channel in plain.samples for sample in of_channel)
    for name in (name for sample in (*shared, *samples) for name, _ in sample.shapesys):
        if name in seen:
            raise Unsupported(f"the shapesys {name!r} stands at more than one sample")
        seen.add(name)


def _check_staterrors(plain: Layout, reading: _Reading) -> None:
    """A staterror that couples channels must do so in all samples alike, or pyhf refuses it."""
    channels: dict[str, dict[str, set[int]]] = {}
    for channel, (names, own) in enumerate(zip(reading.shared, reading.own, strict=True)):
        both = [*zip(names, plain.samples[channel], strict=True), *own]
        for title, sample in both:
            for name, _ in sample.staterror:
                channels.setdefault(name, {}).setdefault(title, set()).add(channel)
    for name, by_sample in channels.items():
        if len({frozenset(found) for found in by_sample.values()}) > 1:
            raise Unsupported(f"the staterror {name!r} is not in the same channels of all samples")


class _Filler:
    """Writes patches into the arrays of a batch."""

    def __init__(self, layout: Layout, members: list[tuple[int, _Reading, _Own]]) -> None:
        self.layout, self.members = layout, members
        self._template: _Settings | None = None

    def fill(self, unsupported: dict[int, str]) -> Lowered | None:
        layout = self.layout
        rows: list[tuple[int, FloatArray, dict[str, Any], list[str | None]]] = []
        samples: list[list[tuple[str, ...]]] = []
        count = len(self.members)
        parts = [
            _empty_part(
                layout, count, len(block.channels), block.own, block.bins, block.slots.shape[2]
            )
            for block in layout.blocks
        ]
        for index, reading, own in self.members:
            try:
                settings, names = self._parameters(reading, own)
            except Unsupported as reason:
                unsupported[index] = str(reason)
                continue
            self._samples(parts, len(rows), reading, own)
            rows.append((index, reading.data[layout.bin_order], settings, names))
            samples.append([tuple(name for name, _ in items) for items in reading.own])
        if not rows:
            return None
        kept = len(rows)
        values = {name: np.stack([row[2][name] for row in rows]) for name in _SETTINGS}
        present = np.array([[name is not None for name in row[3]] for row in rows])
        return Lowered(
            layout=layout,
            index=np.array([row[0] for row in rows]),
            names=[row[3] for row in rows],
            parts=[{name: array[:kept] for name, array in part.items()} for part in parts],
            sample_names=samples,
            data=np.stack([row[1] for row in rows]),
            present=present,
            **values,
        )

    def _samples(self, parts: list[dict[str, Any]], row: int, reading: _Reading, own: _Own) -> None:
        layout = self.layout
        column = dict(layout.column)
        column[reading.poi] = layout.poi
        for kind, names in ((_ALPHA, own.alphas), (_NORM, own.norms), (_LUMI, own.lumis)):
            for number, name in enumerate(names):
                column[name] = layout.column[_role(kind, number)]
        for block, part in zip(layout.blocks, parts, strict=True):
            for place, channel in enumerate(block.channels):
                extra = {
                    item: _role("bin", number) for number, item in enumerate(own.bins[channel])
                }
                for position, (_, sample) in enumerate(reading.own[channel]):
                    at = row, place, position
                    layout.fill(part, at, sample, channel, block.slots[place], column, extra)

    def _parameters(self, reading: _Reading, own: _Own) -> tuple[dict[str, Any], list[str | None]]:
        if self._template is None or self._template.user != reading.user:
            self._template = self._shared_parameters(reading.user)
        settings, layout = self._template.copy(), self.layout
        settings.put(reading.poi, _NORM, [layout.poi])
        for kind, fresh in ((_ALPHA, own.alphas), (_NORM, own.norms), (_LUMI, own.lumis)):
            for number, name in enumerate(fresh):
                settings.put(name, kind, [layout.column[_role(kind, number)]])
        for name, bins in _staterrors(layout, reading, own).items():
            columns, values = _widths(bins)
            settings.put(name, "staterror", columns, values)
        for channel, items in enumerate(reading.own):
            extra = {item: _role("bin", number) for number, item in enumerate(own.bins[channel])}
            for _, sample in items:
                for name, errors in sample.shapesys:
                    role = extra["shapesys", name]
                    columns = [layout.local("extra", role, channel, n) for n in range(len(errors))]
                    settings.put(name, "shapesys", columns, _shapesys(sample.nominal, errors))
        for name, size in _shapefactors(layout, reading).items():
            columns = [layout.local("shapefactor", name, None, n) for n in range(size)]
            settings.put(name, "shapefactor", columns)
        return settings.values, settings.names

    def _shared_parameters(self, user: Mapping[str, Spec]) -> _Settings:
        """Settings of the parameters that do not depend on the patch."""
        layout = self.layout
        settings = _Settings.of(layout, user)
        for name, kind in layout.kinds.items():
            if kind in (_ALPHA, _NORM, _LUMI) and name != layout.shared_poi:
                settings.put(name, kind, [layout.column[name]])
        for channel, samples in enumerate(layout.samples):
            for sample in samples:
                for name, errors in sample.shapesys:
                    columns = [
                        layout.local("shapesys", name, channel, n) for n in range(len(errors))
                    ]
                    settings.put(name, "shapesys", columns, _shapesys(sample.nominal, errors))
        return settings


@dataclass
class _Settings:
    """Settings of all columns of one patch; those that nobody sets are fixed and have no name."""

    user: Mapping[str, Spec]
    values: dict[str, Any]
    names: list[str | None]
    #: Parameters that do not depend on yields, by name, kind and size; shared by all copies.
    known: dict[tuple[str, str, int], ParameterSet] = field(default_factory=dict)

    @classmethod
    def of(cls, layout: Layout, user: Mapping[str, Spec]) -> _Settings:
        size = layout.parameters
        values: dict[str, Any] = {key: np.zeros(size) for key in _SETTINGS}
        values["fixed"] = np.ones(size, dtype=bool)
        values["init"][layout.alphas :] = 1.0
        values["lower"], values["upper"] = values["init"] - 1.0, values["init"] + 1.0
        return cls(user, values, [None] * size)

    def copy(self) -> _Settings:
        values = {name: array.copy() for name, array in self.values.items()}
        return _Settings(self.user, values, list(self.names), self.known)

    def put(
        self,
        name: str,
        kind: str,
        columns: Sequence[int],
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        key, user = (name, kind, len(columns)), self.user.get(name, {})
        if defaults is not None:
            found = _parameter_set(*key, user, **defaults)
        else:
            if key not in self.known:
                self.known[key] = _parameter_set(*key, user)
            found = self.known[key]
        for setting in _SETTINGS:
            self.values[setting][columns] = getattr(found, setting)
        scalar = kind in (_ALPHA, _NORM, _LUMI)
        for number, target in enumerate(columns):
            self.names[target] = name if scalar else f"{name}[{number}]"


def _widths(
    bins: Sequence[tuple[Sequence[int], FloatArray, FloatArray]],
) -> tuple[list[int], dict[str, Any]]:
    """Columns and relative uncertainties of a staterror: of the sum of its samples."""
    columns = [column for item in bins for column in item[0]]
    nominal = np.concatenate([item[1] for item in bins])
    squares = np.concatenate([item[2] for item in bins])
    usable = nominal > 0
    sigmas = np.where(usable, np.sqrt(squares) / np.where(usable, nominal, 1.0), 0.0)
    none = sigmas == 0
    return columns, {"sigmas": np.where(none, 1.0, sigmas), "fixed": none}


def _shapesys(nominal: FloatArray, errors: FloatArray) -> dict[str, Any]:
    """Expected counts of the Poisson constraints, ``(nominal / error)**2``."""
    valid = (nominal > 0) & (errors > 0)
    safe = np.where(valid, errors, 1.0)
    return {"factors": np.where(valid, (nominal / safe) ** 2, 1.0), "fixed": ~valid}


def _staterrors(
    layout: Layout, reading: _Reading, own: _Own
) -> dict[str, list[tuple[list[int], FloatArray, FloatArray]]]:
    """By name and channel: columns, sum of yields and of squared errors of the bins.

    The sums go over the samples of the channel that carry the modifier.
    """
    found: dict[str, list[tuple[list[int], FloatArray, FloatArray]]] = {}
    for channel, (_, bins) in enumerate(reading.channels):
        extra = {item: _role("bin", number) for number, item in enumerate(own.bins[channel])}
        samples = [*layout.samples[channel], *(sample for _, sample in reading.own[channel])]
        sums: dict[str, list[FloatArray]] = {}
        for sample in samples:
            for name, errors in sample.staterror:
                total = sums.setdefault(name, [np.zeros(bins), np.zeros(bins)])
                total[0] = total[0] + sample.nominal
                total[1] = total[1] + errors**2
        for name, (nominal, squares) in sums.items():
            role = extra.get(("staterror", name))
            key = ("staterror", name) if role is None else ("extra", role)
            columns = [layout.local(*key, channel, n) for n in range(bins)]
            found.setdefault(name, []).append((columns, nominal, squares))
    return found


def _shapefactors(layout: Layout, reading: _Reading) -> dict[str, int]:
    """Number of components of each shapefactor: the bins of the first channel that has it."""
    sizes: dict[str, int] = {}
    for channel, (_, bins) in enumerate(reading.channels):
        samples = [*layout.samples[channel], *(sample for _, sample in reading.own[channel])]
        for sample in samples:
            for name in sample.shapefactor:
                if sizes.setdefault(name, bins) < bins:
                    raise Unsupported(f"the shapefactor {name!r} couples channels of unlike size")
    return sizes
