"""Fits of chosen regions, and of blinded data, as workspaces and patches of their own.

Each patch is applied, its full workspace is changed (:mod:`palletfit.engine.regions`), and a new
patch leads from the changed background to it. So every engine and every product answers the
question, and samples that a patch shares with the background stay shared.

Blinded observations are replaced by what the model expects before anything else reads the
workspace: at its values before the fit (Asimov data: Cowan et al., Eur. Phys. J. C 71 (2011) 1554,
section 3.2), or at those of a fit to the channels that are not blinded. Auxiliary data stay what
they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np

from palletfit.config import FitSettings
from palletfit.core.arrays import FloatArray
from palletfit.engine.batch import BatchFits
from palletfit.engine.engine import BatchedEngine
from palletfit.engine.fit_records import fit_records
from palletfit.engine.fits import Fits
from palletfit.engine.likelihood import BELOW
from palletfit.engine.lowering import Lowered, prefit_values
from palletfit.engine.measurements import NONE, Prepared, Question, ask
from palletfit.engine.parameters import measurement_of
from palletfit.engine.refusals import parameters_of
from palletfit.engine.regions import (
    Regions,
    as_patch,
    check_mask,
    check_patterns,
    component_names,
    listed,
    matching,
    read_mask,
    read_patterns,
    restrict,
    sizes_of,
)
from palletfit.engine.samples import Spec
from palletfit.errors import FitError, PalletError, PalletfitError
from palletfit.pallet.patches import Patch, apply_sharing

#: Stands for an observation that is not read, until it is known what is expected there.
_UNREAD = 1.0


@dataclass(frozen=True)
class Likelihoods:
    """A workspace, and patches of it.

    Attributes
    ----------
    workspace
        Complete or background-only workspace.
    patches
        Patches; one without a name and operations where the workspace is complete.
    """

    workspace: Spec
    patches: tuple[Patch, ...]


@dataclass(frozen=True)
class Selection:
    """The likelihoods of a question about regions or blinded data.

    Attributes
    ----------
    fitted
        Likelihoods of the chosen channels and bins.
    predicted
        The same with all channels and bins, and with the same data.
    regions
        Chosen channels and masked bins.
    poi
        Parameter of interest; empty where there is none.
    without_poi
        Names of patches whose chosen channels do not have the parameter of interest.
    refused
        Errors of patches that have no such fit, by name.
    blinded
        Names of channels whose observations are expected ones.
    remarks
        What a reader of results should know.
    """

    fitted: Likelihoods
    predicted: Likelihoods
    regions: Regions
    poi: str
    without_poi: frozenset[str] = frozenset()
    refused: Mapping[str, PalletfitError] = field(default_factory=dict)
    blinded: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def full_names(self, patch: Patch) -> dict[str, str]:
        """Give names of parameters in the full workspace of a patch, by those in its fit.

        Parameters
        ----------
        patch
            One of `predicted`.

        Returns
        -------
        dict
            Of parameters with a component for each bin; others keep their names.
        """
        return component_names(apply_sharing(self.predicted.workspace, patch), self.regions)


def select(
    prepared: Prepared,
    question: Question,
    patches: Sequence[Patch] | None,
    settings: FitSettings,
    *,
    needs_poi: bool,
) -> Selection:
    """Choose the regions of a question, and blind data.

    Parameters
    ----------
    prepared
        Workspace whose measurement asks the rest of the question.
    question
        Question.
    patches
        Signal patches of the workspace; None for a complete one.
    settings
        Measurement and interpolation codes; the fit that blinded data come from is one of the
        batched engine.
    needs_poi
        Refuse patches whose chosen channels do not have the parameter of interest.

    Raises
    ------
    PalletError
        An argument is wrong, or a pattern fits no channel; or a complete workspace has no such
        fit. The errors of patches are in the selection.
    """
    members = (Patch("", (), ()),) if patches is None else tuple(patches)
    if all(getattr(question, name) is None for name in ("channels", "mask", "asimov", "blind")):
        likelihoods = Likelihoods(prepared.workspace, members)
        regions = Regions()
        return Selection(likelihoods, likelihoods, regions, prepared.poi, remarks=prepared.remarks)
    try:
        selector = _Selector(prepared, question, members, settings)
        selection = selector.select(needs_poi=needs_poi)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise PalletError(
            f"The workspace has another shape than pyhf's schema says ({error!r}).",
            remedy="Correct the workspace.",
        ) from error
    if patches is None and selection.refused:
        raise selection.refused[""]
    return selection


class _Selector:
    """The selection of regions and data of one workspace and its patches."""

    def __init__(
        self,
        prepared: Prepared,
        question: Question,
        patches: tuple[Patch, ...],
        settings: FitSettings,
    ) -> None:
        self.prepared, self.settings = prepared, settings
        self.patches = {patch.name: patch for patch in patches}
        self.refused: dict[str, PalletfitError] = {}
        self.asimov = _strength(question.asimov, prepared.poi)
        self.blind = question.blind is not None
        channels = question.channels
        self.patterns = None if channels is None else read_patterns("channels", channels)
        self.mask = {} if question.mask is None else read_mask(question.mask)
        #: Bounds of the parameter of interest that the signal strength of Asimov data leaves.
        self.outside: tuple[float, float] | None = None
        self.blinded: tuple[str, ...] = ()
        if question.blind is not None:
            self.blinded = read_patterns("blind", question.blind)
        elif question.asimov is not None:
            self.blinded = ("*",)

    @cached_property
    def specs(self) -> dict[str, Spec]:
        """Full workspaces of the patches that apply, by name."""
        specs: dict[str, Spec] = {}
        for name, patch in self.patches.items():
            try:
                specs[name] = apply_sharing(self.prepared.workspace, patch)
            except PalletfitError as error:
                self.refused[name] = error
        return specs

    def select(self, *, needs_poi: bool) -> Selection:
        """Select regions and data."""
        if not self.specs and "" in self.refused:
            raise self.refused[""]
        self._check_names()
        background = self._hide(self.prepared.workspace)
        predicted = {name: self._hide(spec) for name, spec in self.specs.items()}
        if self.hidden:
            observed = self._expected(background, predicted)
            predicted = {
                name: {**spec, "observations": observed[name]}
                for name, spec in predicted.items()
                if name in observed
            }
        fitted, without_poi = self._restricted(predicted, self.regions, needs_poi=needs_poi)
        bare = self._bare(background, self.regions)
        poi = self.prepared.poi
        if list(predicted) == [""]:
            poi = "" if without_poi else poi
        return Selection(
            fitted=self._likelihoods(bare, fitted),
            predicted=self._likelihoods(background, predicted),
            regions=self.regions,
            poi=poi,
            without_poi=frozenset(without_poi),
            refused=self.refused,
            blinded=self.hidden,
            remarks=(*self.prepared.remarks, *self._remarks()),
        )

    # ------------------------------------------------------------------ names

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Give the bins of all channels of background and patches."""
        sizes = sizes_of(self.prepared.workspace)
        for spec in self.specs.values():
            sizes = {**sizes_of(spec), **sizes}
        return sizes

    @cached_property
    def regions(self) -> Regions:
        """The chosen channels by their names, and the masked bins."""
        if self.patterns is None:
            return Regions(mask=self.mask)
        return Regions(channels=matching(self.patterns, self.sizes), mask=self.mask)

    @cached_property
    def hidden(self) -> tuple[str, ...]:
        """Names of the channels whose observations are not read."""
        return matching(self.blinded, self.sizes)

    def _check_names(self) -> None:
        """Refuse names that are not there."""
        sizes = self.sizes
        check_patterns("channels", self.patterns or (), [*sizes])
        check_patterns("blind", self.blinded, [*sizes])
        check_mask(self.regions, sizes)

    def _remarks(self) -> list[str]:
        """Say which channels and bins are fitted, and which data are not the observed ones."""
        sizes, remarks = self.sizes, []
        fitted = [name for name in sizes if self.regions.has(name)]
        if len(fitted) < len(sizes):
            remarks.append(f"fitted channels: {listed(fitted)}, {len(fitted)} of {len(sizes)}")
        masked = [
            f"{name}[{number}]"
            for name, bins in self.regions.mask.items()
            for number in sorted(bins)
            if self.regions.has(name)
        ]
        if masked:
            remarks.append(f"masked bins, which do not count: {listed(masked)}")
        strength = f" with {self.prepared.poi} = {self.asimov:g}" if self.prepared.poi else ""
        if self.blind:
            remarks.append(
                f"blinded channels: {listed(self.hidden)}; their data are what the fit to the "
                f"others expects{strength}"
            )
        elif self.hidden:
            remarks.append(
                f"blinded: the data are Asimov data, as expected before the fit{strength}"
            )
        if self.outside is not None:
            lower, upper = self.outside
            remarks.append(
                f"the data expect {self.prepared.poi} = {self.asimov:g}, and fits stay within its "
                f"bounds {lower:g} to {upper:g}"
            )
        return remarks

    # ------------------------------------------------------------------ workspaces

    def _hide(self, spec: Spec) -> Spec:
        """Take observations out that must not be read."""
        if not self.hidden:
            return spec
        observations = [
            {**entry, "data": [_UNREAD] * len(entry["data"])}
            if entry["name"] in self.hidden
            else entry
            for entry in spec["observations"]
        ]
        return {**spec, "observations": observations}

    def _restricted(
        self, specs: Mapping[str, Spec], regions: Regions, *, needs_poi: bool = False
    ) -> tuple[dict[str, Spec], list[str]]:
        """Restrict full workspaces; give the names of those that lose the parameter of interest.

        These are fitted without one.
        """
        restricted: dict[str, Spec] = {}
        without_poi: list[str] = []
        for name, spec in specs.items():
            try:
                left = restrict(spec, regions)
                if self._poi_of(spec) not in parameters_of(left):
                    if needs_poi:
                        raise self._without_signal()
                    without = Question(poi="")
                    left = ask(left, self.settings.measurement, without, needs_poi=False).workspace
                    without_poi.append(name)
                restricted[name] = left
            except PalletfitError as error:
                error.patch = name or None
                self.refused[name] = error
        return restricted, without_poi

    def _poi_of(self, spec: Spec) -> str:
        return str(measurement_of(spec, self.settings.measurement)["config"]["poi"])

    def _without_signal(self) -> PalletError:
        return PalletError(
            f"No sample with events in the chosen channels carries the parameter of interest "
            f"{self.prepared.poi!r}.",
            remedy="Choose channels with signal, too. A fit, pulls, yields and the goodness of fit "
            "need none.",
        )

    def _bare(self, background: Spec, regions: Regions) -> Spec:
        """Restrict the background, of which a patch may add all channels that are chosen."""
        if any(regions.has(name) for name in sizes_of(background)):
            return restrict(background, regions)
        return {**background, "channels": [], "observations": []}

    def _likelihoods(self, background: Spec, specs: Mapping[str, Spec]) -> Likelihoods:
        """Make patches of full workspaces, in the order in which they were given."""
        if [*self.patches] == [""] and specs:
            # A complete workspace is its own background.
            return Likelihoods(specs[""], (Patch("", (), ()),))
        patches = [
            as_patch(patch, background, specs[name])
            for name, patch in self.patches.items()
            if name in specs
        ]
        return Likelihoods(background, tuple(patches))

    # ------------------------------------------------------------------ expected observations

    def _expected(self, background: Spec, specs: Mapping[str, Spec]) -> dict[str, list[Spec]]:
        """Compute the observations of blinded workspaces, by name."""
        points = self._fit_others(background, specs) if self.blind else {}
        targets = self._likelihoods(background, specs)
        engine = BatchedEngine(targets.workspace, self.settings)
        batches, refused = engine.lower(targets.patches)
        for patch, reason in refused:
            self.refused[patch.name] = _refusal(reason, patch)
        observed: dict[str, list[Spec]] = {}
        for batch, members in batches:
            tests = engine.batch_fits(batch)
            start = self._start(batch)
            for row, patch in enumerate(members):
                values = points.get(patch.name, {})
                for column, name in enumerate(batch.names[row]):
                    start[row, column] = values.get(str(name), start[row, column])
            rates = _rates(tests, start)
            for row, patch in enumerate(members):
                if patch.name in self.refused:
                    continue
                try:
                    observed[patch.name] = self._observations(specs[patch.name], batch, rates[row])
                except PalletError as error:
                    self.refused[patch.name] = error
        return observed

    def _start(self, batch: Lowered) -> FloatArray:
        """Give the parameters before the fit, with the signal strength of the Asimov data."""
        start = np.array([prefit_values(batch, row) for row in range(len(batch))])
        named = batch.names[0][batch.layout.poi] != NONE
        start[:, batch.layout.poi] = self.asimov if named else 0.0
        lower, upper = (float(bounds[0, batch.layout.poi]) for bounds in (batch.lower, batch.upper))
        if named and not lower <= self.asimov <= upper:
            self.outside = (lower, upper)
        return start

    def _fit_others(
        self, background: Spec, specs: Mapping[str, Spec]
    ) -> dict[str, dict[str, float]]:
        """Fit the channels that are not blinded; give parameters by their names in all channels."""
        unblinded = replace(self.regions, without=self.hidden)
        if not any(unblinded.has(name) for name in self.sizes):
            raise PalletError(
                "All chosen channels are blinded: none is left for the fit that says what is "
                "expected there.",
                remedy="Blind fewer channels, or take Asimov data of all with `asimov`.",
            )
        restricted, _ = self._restricted(specs, unblinded)
        targets = self._likelihoods(self._bare(background, unblinded), restricted)
        engine = BatchedEngine(targets.workspace, self.settings)
        batches, refused = engine.lower(targets.patches)
        for patch, reason in refused:
            self.refused[patch.name] = _refusal(reason, patch)
        points: dict[str, dict[str, float]] = {}
        for batch, members in batches:
            named = batch.names[0][batch.layout.poi] != NONE
            fits = engine.batch_fits(batch).lowest(self.asimov if named else 0.0)
            records = fit_records(batch, fits, brief=True)
            for row, patch in enumerate(members):
                if not records[row].trusted:
                    self.refused[patch.name] = _not_trusted(records[row].reason, patch)
                    continue
                renamed = component_names(specs[patch.name], unblinded)
                points[patch.name] = {
                    renamed.get(str(name), str(name)): float(fits.point[row, column])
                    for column, name in enumerate(batch.names[row])
                    if name is not None and name != NONE
                }
        return points

    def _observations(self, spec: Spec, batch: Lowered, rates: FloatArray) -> list[Spec]:
        """Replace blinded observations by expected ones."""
        layout = batch.layout
        ordered = np.empty(len(rates))
        ordered[layout.bin_order] = rates
        starts = np.cumsum([0, *(bins for _, bins in layout.channels)])
        expected = {
            name: ordered[first : first + bins].tolist()
            for (name, bins), first in zip(layout.channels, starts, strict=False)
        }
        hidden = {name for name in expected if name in self.hidden}
        for name in sorted(hidden):
            if not all(BELOW < value < math.inf for value in expected[name]):
                raise PalletError(
                    f"The channel {name!r} cannot be blinded: fewer than zero events are expected "
                    "in one of its bins.",
                    remedy="Choose another signal strength with `asimov`, or mask the bin.",
                )
        return [
            {**entry, "data": [max(value, 0.0) for value in expected[entry["name"]]]}
            if entry["name"] in hidden
            else entry
            for entry in spec["observations"]
        ]


def _rates(tests: BatchFits, point: FloatArray) -> FloatArray:
    """Compute expected events of each patch of a batch at a point of its own, ``(P, B)``."""
    batch = tests.batch
    return tests.likelihood.rates(Fits(batch.data, batch.aux, None, tests.rows), point)


def _strength(value: Any, poi: str) -> float:
    """Read the signal strength of Asimov data."""
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise PalletError(
            f"The signal strength of Asimov data is {value!r}.",
            remedy="Give a finite number: asimov=0 is the background alone.",
        )
    if value and not poi:
        raise PalletError(
            f"There is no parameter of interest that could be {value:g} in Asimov data.",
            remedy="Give asimov=0, or choose a parameter of interest with `poi`.",
        )
    return float(value)


def _refusal(reason: PalletfitError | str, patch: Patch) -> PalletfitError:
    if isinstance(reason, PalletfitError):
        return reason
    return PalletError(
        f"The data cannot be blinded, because the batched engine does not support the model: "
        f"{reason}.",
        remedy="Replace the observations in the workspace by those of a fit with pyhf.",
        patch=patch.name or None,
    )


def _not_trusted(reason: str, patch: Patch) -> FitError:
    return FitError(
        f"The fit to the channels that are not blinded has no proven minimum: {reason}.",
        remedy="Look at the yields of these channels, or blind fewer of them.",
        patch=patch.name or None,
    )
