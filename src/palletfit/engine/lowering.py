"""From workspaces to arrays: a background lowered once, and each patch as a slice.

All patches of a pallet share most samples. A :class:`Background` reads those once; a
:class:`Lowered` batch holds them as arrays together with one slice for each of some patches that
have the same shape: signal samples, widths of constraints, settings of parameters, data.

The letters of axes are those of :mod:`palletfit.engine.samples`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palletfit.config import FitSettings
from palletfit.core.arrays import FloatArray
from palletfit.engine.layout import Extra, Layout, empty_part, role_name
from palletfit.engine.parameters import (
    SETTINGS,
    ParameterSet,
    free_poi,
    measurement_of,
    parameter_set,
    user_settings,
)
from palletfit.engine.samples import (
    ALPHA,
    LUMI,
    NORM,
    Sample,
    Spec,
    Unsupported,
    bin_modifiers,
    merge_kinds,
    numbers,
    read_sample,
)


@dataclass(frozen=True)
class Reading:
    """One patch's full workspace, split into what it shares with the background and the rest."""

    channels: tuple[tuple[str, int], ...]
    shared: tuple[tuple[str, ...], ...]
    added: tuple[tuple[tuple[str, Sample], ...], ...]
    data: FloatArray
    user: dict[str, Spec]
    poi: str
    remarks: tuple[str, ...]

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
        self._codes = settings.normsys, settings.histosys
        self._samples: dict[tuple[str, str], Sample] = {}
        self._layouts: dict[Any, Layout] = {}

    def sample(self, channel: str, name: str) -> Sample:
        """Give a sample of the background."""
        key = channel, name
        if key not in self._samples:
            self._samples[key] = read_sample(self._specs[key], self._codes)
        return self._samples[key]

    def read(self, spec: Spec) -> Reading:
        """Read a full workspace; samples that are the background's own are not read again.

        Raises
        ------
        Unsupported
            See :func:`read_sample`; also if observed counts are no numbers, not finite or below
            zero.
        """
        channels, shared, added = [], [], []
        for channel in sorted(spec["channels"], key=lambda entry: str(entry["name"])):
            name = channel["name"]
            same, other = [], []
            for entry in sorted(channel["samples"], key=lambda entry: str(entry["name"])):
                published = self._specs.get((name, entry["name"]))
                if published is not None and _same(entry, published):
                    same.append(entry["name"])
                else:
                    other.append((entry["name"], read_sample(entry, self._codes)))
            channels.append((name, len(channel["samples"][0]["data"])))
            shared.append(tuple(same))
            added.append(tuple(other))
        observed = {entry["name"]: entry["data"] for entry in spec["observations"]}
        data = np.concatenate([numbers(observed[name], "a count") for name, _ in channels])
        if not np.all((data >= 0) & (data < np.inf)):
            raise Unsupported("an observed count is not finite, or below zero")
        measurement, remarks = free_poi(measurement_of(spec, self.settings.measurement))
        return Reading(
            channels=tuple(channels),
            shared=tuple(shared),
            added=tuple(added),
            data=data,
            user=user_settings(measurement),
            poi=measurement["config"]["poi"],
            remarks=remarks,
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
        groups: dict[Any, list[tuple[int, Reading]]] = {}
        for index, spec in enumerate(specs):
            try:
                with _shape_errors():
                    reading = self.read(spec)
                    groups.setdefault(reading.shape, []).append((index, reading))
            except Unsupported as reason:
                unsupported[index] = str(reason)
        batches = []
        for group in groups.values():
            batch = _lower_group(self, group, unsupported)
            if batch is not None:
                batches.append(batch)
        return batches, unsupported

    def layout(self, reading: Reading, extra: Extra) -> Layout:
        """Give the columns of parameters and the shared arrays of one shape, made once."""
        key = reading.shape, extra
        if key not in self._layouts:
            samples = [
                [(name, self.sample(channel, name)) for name in names]
                for (channel, _), names in zip(reading.channels, reading.shared, strict=True)
            ]
            channels, poi = reading.channels, reading.poi
            self._layouts[key] = Layout(channels, samples, poi, self._codes, extra)
        return self._layouts[key]


@contextmanager
def _shape_errors() -> Iterator[None]:
    """Translate errors of reading a workspace that is not what pyhf's schema says."""
    try:
        yield
    except OverflowError:
        raise Unsupported("a number is larger than any floating-point number") from None
    except (KeyError, IndexError, TypeError, ValueError, RecursionError) as error:
        raise Unsupported(f"something in it has another shape than it should ({error!r})") from None


def _same(sample: Spec, published: Spec) -> bool:
    """Compare the content of two samples; quick where they share it."""
    if sample["modifiers"] is published["modifiers"] and sample["data"] is published["data"]:
        return True
    same: bool = sample == published
    return same


@dataclass
class Lowered:
    """Patches of one shape as arrays.

    Attributes
    ----------
    layout
        What the columns are, and the shared arrays.
    index
        Positions of the patches in what was lowered, shape ``(P,)``.
    remarks
        For each patch what a reader of its results should know.
    names
        For each patch the names of its parameters in pyhf's notation; None in columns of
        parameters that it does not have.
    parts
        For each block the arrays of the patches' own samples; ``(P, C, S, …)``.
    readings
        For each patch the content of its own samples, and settings of its measurement.
    data
        Observed counts in the order of the blocks, ``(P, B)``.
    init, lower, upper, fixed, present, aux, precision, factor
        Settings of the parameters, ``(P, K)``, see :class:`ParameterSet`. A parameter that a patch
        does not have is not `present`, and fixed.
    """

    layout: Layout
    index: NDArray[np.int64]
    remarks: list[tuple[str, ...]]
    names: list[list[str | None]]
    parts: list[dict[str, Any]]
    readings: list[Reading]
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

    def sample_names(self, row: int, channel: int) -> tuple[str, ...]:
        """Give the names of the own samples of a patch in a channel."""
        return tuple(name for name, _ in self.readings[row].added[channel])

    def take(self, rows: NDArray[np.int64]) -> Lowered:
        """Take some of the patches, any of them several times."""
        arrays = {
            name: getattr(self, name)[rows] for name in ("index", "data", "present", *SETTINGS)
        }
        return Lowered(
            layout=self.layout,
            remarks=[self.remarks[row] for row in rows],
            names=[self.names[row] for row in rows],
            readings=[self.readings[row] for row in rows],
            parts=[{name: part[name][rows] for name in part} for part in self.parts],
            **arrays,
        )


def prefit_widths(batch: Lowered) -> FloatArray:
    """Give prefit standard deviations, or a part of the range where there are none, ``(P, K)``."""
    constrained = batch.precision + batch.factor
    return np.where(
        constrained > 0,
        1.0 / np.sqrt(np.maximum(constrained, 1e-30)),
        np.minimum((batch.upper - batch.lower) / 20, 0.5),
    )


def prefit_values(batch: Lowered, row: int) -> FloatArray:
    """Give the parameters of a patch before the fit, ``(K,)``."""
    poisson, gaussian = batch.factor[row] > 0, batch.precision[row] > 0
    measured = np.where(
        poisson, batch.aux[row] / np.where(poisson, batch.factor[row], 1.0), batch.aux[row]
    )
    constrained = (poisson | gaussian) & ~batch.fixed[row]
    return np.asarray(np.where(constrained, measured, batch.init[row]))


@dataclass
class _Additions:
    """Parameters and modifiers that one patch has beyond the shared samples."""

    alphas: list[str] = field(default_factory=list)
    hist: set[str] = field(default_factory=set)
    norm: set[str] = field(default_factory=set)
    norms: list[str] = field(default_factory=list)
    lumis: list[str] = field(default_factory=list)
    #: By channel: (kind, name) of its own staterror and shapesys modifiers.
    bins: list[list[tuple[str, str]]] = field(default_factory=list)
    shapefactors: list[tuple[str, int]] = field(default_factory=list)


def _lower_group(
    background: Background, group: list[tuple[int, Reading]], unsupported: dict[int, str]
) -> Lowered | None:
    plain = None
    members: list[tuple[int, Reading, _Additions]] = []
    for index, reading in group:
        try:
            with _shape_errors():
                plain = plain or background.layout(reading, _no_extra(reading))
                members.append((index, reading, _additions_of(plain, reading)))
        except Unsupported as reason:
            unsupported[index] = str(reason)
    if not members:
        return None
    channels = range(len(members[0][1].channels))
    extra = Extra(
        alphas=max(len(additions.alphas) for _, _, additions in members),
        hist=tuple(sorted(set[str]().union(*(additions.hist for _, _, additions in members)))),
        norm=tuple(sorted(set[str]().union(*(additions.norm for _, _, additions in members)))),
        norms=max(len(additions.norms) for _, _, additions in members),
        lumis=max(len(additions.lumis) for _, _, additions in members),
        samples=tuple(max(len(reading.added[c]) for _, reading, _ in members) for c in channels),
        bins=tuple(max(len(additions.bins[c]) for _, _, additions in members) for c in channels),
        shapefactors=tuple(
            sorted(
                {
                    shapefactor
                    for _, _, additions in members
                    for shapefactor in additions.shapefactors
                }
            )
        ),
    )
    try:
        layout = background.layout(members[0][1], extra)
    except Unsupported as reason:
        unsupported.update((index, str(reason)) for index, _, _ in members)
        return None
    return _Filler(layout, members).fill(unsupported)


def _no_extra(reading: Reading) -> Extra:
    none = (0,) * len(reading.channels)
    return Extra(samples=none, bins=none)


def _additions_of(plain: Layout, reading: Reading) -> _Additions:
    """Find the parameters of a patch that the shared samples do not have."""
    kinds = dict(plain.kinds)
    samples = [sample for additions in reading.added for _, sample in additions]
    for sample in samples:
        merge_kinds(kinds, sample)
        plain.check_codes(sample)
    if kinds.get(reading.poi) != NORM:
        raise Unsupported(f"the parameter of interest {reading.poi!r} is not a normfactor")
    fresh = sorted(set(kinds) - set(plain.kinds) - {reading.poi})
    hist = {name for sample in samples for name in sample.hist_names}
    norm = {name for sample in samples for name in sample.norm_names}
    additions = _Additions(
        alphas=[name for name in fresh if kinds[name] == ALPHA],
        hist=hist - plain.histosys - set(fresh),
        norm=norm - plain.normsys - set(fresh),
        norms=[name for name in fresh if kinds[name] == NORM],
        lumis=[name for name in fresh if kinds[name] == LUMI],
    )
    if sum(kind == LUMI for kind in kinds.values()) > 1:
        raise Unsupported("there is more than one lumi parameter")
    _check_shapesys(plain, samples)
    for channel, channel_samples in enumerate(reading.added):
        mine: set[tuple[str, str]] = set()
        for kind, name in (pair for _, sample in channel_samples for pair in bin_modifiers(sample)):
            if kind == "shapefactor":
                column = plain.local_column.get((kind, name, None, 0), -1)
                if column not in plain.in_bin.get((channel, 0), ()):
                    additions.shapefactors.append((name, channel))
            elif (kind, name, channel, 0) not in plain.local_column:
                if name in plain.kinds:
                    raise Unsupported(f"the {kind} {name!r} couples other channels, too")
                mine.add((kind, name))
        additions.bins.append(sorted(mine))
    _check_staterrors(plain, reading)
    return additions


def _check_shapesys(plain: Layout, samples: Sequence[Sample]) -> None:
    """Refuse samples that share a shapesys, as pyhf does."""
    seen: set[str] = set()
    shared = (sample for of_channel in plain.samples for sample in of_channel)
    for name in (name for sample in (*shared, *samples) for name, _ in sample.shapesys):
        if name in seen:
            raise Unsupported(f"the shapesys {name!r} stands at more than one sample")
        seen.add(name)


def _check_staterrors(plain: Layout, reading: Reading) -> None:
    """Refuse a staterror that couples channels in some samples only, as pyhf does."""
    channels: dict[str, dict[str, set[int]]] = {}
    for channel, (names, added) in enumerate(zip(reading.shared, reading.added, strict=True)):
        all_samples = [*zip(names, plain.samples[channel], strict=True), *added]
        for title, sample in all_samples:
            for name, _ in sample.staterror:
                channels.setdefault(name, {}).setdefault(title, set()).add(channel)
    for name, by_sample in channels.items():
        if len({frozenset(positions) for positions in by_sample.values()}) > 1:
            raise Unsupported(f"the staterror {name!r} is not in the same channels of all samples")


class _Filler:
    """Writes patches into the arrays of a batch."""

    def __init__(self, layout: Layout, members: list[tuple[int, Reading, _Additions]]) -> None:
        self.layout, self.members = layout, members
        self._template: _Settings | None = None

    def fill(self, unsupported: dict[int, str]) -> Lowered | None:
        layout = self.layout
        rows: list[tuple[int, FloatArray, dict[str, Any], list[str | None]]] = []
        remarks: list[tuple[str, ...]] = []
        readings: list[Reading] = []
        count = len(self.members)
        parts = [
            empty_part(
                layout, count, len(block.channels), block.added, block.bins, block.slots.shape[2]
            )
            for block in layout.blocks
        ]
        for index, reading, additions in self.members:
            try:
                settings, names = self._parameters(reading, additions)
            except Unsupported as reason:
                unsupported[index] = str(reason)
                continue
            self._samples(parts, len(rows), reading, additions)
            rows.append((index, reading.data[layout.bin_order], settings, names))
            remarks.append(reading.remarks)
            readings.append(reading)
        if not rows:
            return None
        count_lowered = len(rows)
        values = {name: np.stack([row[2][name] for row in rows]) for name in SETTINGS}
        present = np.array([[name is not None for name in row[3]] for row in rows])
        return Lowered(
            layout=layout,
            index=np.array([row[0] for row in rows]),
            remarks=remarks,
            names=[row[3] for row in rows],
            parts=[{name: array[:count_lowered] for name, array in part.items()} for part in parts],
            readings=readings,
            data=np.stack([row[1] for row in rows]),
            present=present,
            **values,
        )

    def _samples(
        self, parts: list[dict[str, Any]], row: int, reading: Reading, additions: _Additions
    ) -> None:
        layout = self.layout
        column = dict(layout.column)
        column[reading.poi] = layout.poi
        for kind, names in (
            (ALPHA, additions.alphas),
            (NORM, additions.norms),
            (LUMI, additions.lumis),
        ):
            for number, name in enumerate(names):
                column[name] = layout.column[role_name(kind, number)]
        for block, part in zip(layout.blocks, parts, strict=True):
            for slot, channel in enumerate(block.channels):
                extra = {
                    modifier: role_name("bin", number)
                    for number, modifier in enumerate(additions.bins[channel])
                }
                for position, (_, sample) in enumerate(reading.added[channel]):
                    at = row, slot, position
                    layout.fill(part, at, sample, channel, column, extra)

    def _parameters(
        self, reading: Reading, additions: _Additions
    ) -> tuple[dict[str, Any], list[str | None]]:
        if self._template is None or self._template.user != reading.user:
            self._template = self._shared_parameters(reading.user)
        settings, layout = self._template.copy(), self.layout
        settings.put(reading.poi, NORM, [layout.poi])
        for kind, fresh in (
            (ALPHA, additions.alphas),
            (NORM, additions.norms),
            (LUMI, additions.lumis),
        ):
            for number, name in enumerate(fresh):
                settings.put(name, kind, [layout.column[role_name(kind, number)]])
        for name, bins in _staterrors(layout, reading, additions).items():
            columns, values = _widths(bins)
            settings.put(name, "staterror", columns, values)
        for channel, channel_samples in enumerate(reading.added):
            extra = {
                modifier: role_name("bin", number)
                for number, modifier in enumerate(additions.bins[channel])
            }
            for _, sample in channel_samples:
                for name, errors in sample.shapesys:
                    role = extra["shapesys", name]
                    columns = [layout.local("extra", role, channel, n) for n in range(len(errors))]
                    settings.put(name, "shapesys", columns, _shapesys(sample.nominal, errors))
        for name, size in _shapefactors(layout, reading).items():
            columns = [layout.local("shapefactor", name, None, n) for n in range(size)]
            settings.put(name, "shapefactor", columns)
        return settings.values, settings.names

    def _shared_parameters(self, user: Mapping[str, Spec]) -> _Settings:
        """Set the parameters that do not depend on the patch."""
        layout = self.layout
        settings = _Settings.of(layout, user)
        for name, kind in layout.kinds.items():
            if kind in (ALPHA, NORM, LUMI) and name != layout.shared_poi:
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
    common: dict[tuple[str, str, int], ParameterSet] = field(default_factory=dict)

    @classmethod
    def of(cls, layout: Layout, user: Mapping[str, Spec]) -> _Settings:
        size = layout.parameters
        values: dict[str, Any] = {key: np.zeros(size) for key in SETTINGS}
        values["fixed"] = np.ones(size, dtype=bool)
        values["init"][layout.alphas :] = 1.0
        values["lower"], values["upper"] = values["init"] - 1.0, values["init"] + 1.0
        return cls(user, values, [None] * size)

    def copy(self) -> _Settings:
        values = {name: array.copy() for name, array in self.values.items()}
        return _Settings(self.user, values, list(self.names), self.common)

    def put(
        self,
        name: str,
        kind: str,
        columns: Sequence[int],
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        key, user = (name, kind, len(columns)), self.user.get(name, {})
        if defaults is not None:
            parameters = parameter_set(*key, user, **defaults)
        else:
            if key not in self.common:
                self.common[key] = parameter_set(*key, user)
            parameters = self.common[key]
        for setting in SETTINGS:
            self.values[setting][columns] = getattr(parameters, setting)
        scalar = kind in (ALPHA, NORM, LUMI)
        for number, target in enumerate(columns):
            self.names[target] = name if scalar else f"{name}[{number}]"


def _widths(
    bins: Sequence[tuple[Sequence[int], FloatArray, FloatArray]],
) -> tuple[list[int], dict[str, Any]]:
    """Columns and relative uncertainties of a staterror: of the sum of its samples.

    The sum may be negative, as that of an interference is.
    """
    columns = [column for of_channel in bins for column in of_channel[0]]
    nominal = np.concatenate([of_channel[1] for of_channel in bins])
    squares = np.concatenate([of_channel[2] for of_channel in bins])
    usable = nominal != 0
    sigmas = np.where(usable, np.sqrt(squares) / np.where(usable, np.abs(nominal), 1.0), 0.0)
    none = sigmas == 0
    return columns, {"sigmas": np.where(none, 1.0, sigmas), "fixed": none}


def _shapesys(nominal: FloatArray, errors: FloatArray) -> dict[str, Any]:
    """Compute expected counts of the Poisson constraints, ``(nominal / error)**2``."""
    valid = (nominal != 0) & (errors != 0)
    safe = np.where(valid, errors, 1.0)
    return {"factors": np.where(valid, (nominal / safe) ** 2, 1.0), "fixed": ~valid}


def _staterrors(
    layout: Layout, reading: Reading, additions: _Additions
) -> dict[str, list[tuple[list[int], FloatArray, FloatArray]]]:
    """Sum by name and channel: columns, sum of yields and of squared errors of the bins.

    The sums go over the samples of the channel that carry the modifier.
    """
    by_name: dict[str, list[tuple[list[int], FloatArray, FloatArray]]] = {}
    for channel, (_, bins) in enumerate(reading.channels):
        extra = {
            modifier: role_name("bin", number)
            for number, modifier in enumerate(additions.bins[channel])
        }
        samples = [*layout.samples[channel], *(sample for _, sample in reading.added[channel])]
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
            by_name.setdefault(name, []).append((columns, nominal, squares))
    return by_name


def _shapefactors(layout: Layout, reading: Reading) -> dict[str, int]:
    """Count the components of each shapefactor: the bins of the first channel that has it."""
    sizes: dict[str, int] = {}
    for channel, (_, bins) in enumerate(reading.channels):
        samples = [*layout.samples[channel], *(sample for _, sample in reading.added[channel])]
        for sample in samples:
            for name in sample.shapefactor:
                if sizes.setdefault(name, bins) < bins:
                    raise Unsupported(f"the shapefactor {name!r} couples channels of unlike size")
    return sizes
