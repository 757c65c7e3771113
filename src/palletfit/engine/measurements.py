"""Questions to a workspace other than the one that its measurement asks.

Another parameter of interest, or none; parameters that are fixed; a signal of one event in a
region, or of given yields. Each becomes a change of the workspace before any engine reads it, so
that every engine and every product answers it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

from palletfit.core.text import did_you_mean
from palletfit.engine.parameters import measurement_of
from palletfit.engine.records import BestFit
from palletfit.engine.refusals import parameters_of
from palletfit.engine.samples import ALPHA, NORM, Spec, Unsupported
from palletfit.errors import PalletError, PalletfitError
from palletfit.pallet.patches import Patch, apply_sharing

#: Parameter of interest of a model that has none. It scales samples without events, and is fixed.
#: No modifier has such a name.
NONE = "(no parameter of interest)"
#: Sample that brings one event into a region.
SIGNAL = "signal_of_one_event"
#: Sample of yields that a caller gives, and its strength where the measurement names none.
YIELDS, SIGNAL_STRENGTH = "signal", "mu"
#: The bound of the number of events is so many times what is expected and observed, and more.
_ROOM, _MORE = 10.0, 10.0


@dataclass(frozen=True)
class Question:
    """Changes of the question that a measurement asks.

    Attributes
    ----------
    poi
        Parameter of interest, a normfactor; an empty text for none. None: the measurement's.
    fix
        Parameters that are fixed, by name, and their values; None: the suggested one. A parameter
        with a component for each bin has the same value in all of them.
    signal_in
        Channel, or ``CHANNEL:BIN`` with bins counted from 1, that gets a signal of one event. The
        parameter of interest is then the number of its events.
    signal
        Expected events of a signal in the bins of each channel that has some, by the channel's
        name; one number for a channel of one bin. The parameter of interest multiplies them.
    uncertainties
        Relative uncertainties of all yields of that signal (normsys), by name. One whose name the
        background has, too, is correlated with it.
    channels
        Names or shell patterns of the channels that are fitted, such as ``["CR*"]``; None: all of
        them. Parameters that only others have are no part of the fit.
    mask
        Bins that do not count, by the name of their channel, counted from 0 as the components of
        parameters are: ``{"SR": [0, 1]}``. Components of the bins that are left are numbered again.
    asimov
        Signal strength of Asimov data, which stand for the observations: what the model expects at
        its values before the fit. With `blind`, signal strength in the blinded channels.
    blind
        Names or shell patterns of channels whose observations are not read. What is expected there
        stands for them, of the fit to the other chosen channels, with the signal strength `asimov`,
        by default 0.

    The last four change the workspace in :mod:`palletfit.engine.selection`.
    """

    poi: str | None = None
    fix: Mapping[str, float | None] = field(default_factory=dict)
    signal_in: str | None = None
    signal: Mapping[str, float | Sequence[float]] | None = None
    uncertainties: Mapping[str, float] = field(default_factory=dict)
    channels: str | Collection[str] | None = None
    mask: Mapping[str, int | Sequence[int]] | None = None
    asimov: float | None = None
    blind: str | Collection[str] | None = None


@dataclass(frozen=True)
class Prepared:
    """A workspace whose measurement asks the question.

    Attributes
    ----------
    workspace
        Workspace, or the changed copy.
    poi
        Parameter of interest; empty where there is none.
    remarks
        What a reader of results should know.
    """

    workspace: Spec
    poi: str
    remarks: tuple[str, ...] = ()


def ask(
    workspace: Spec,
    measurement: str | None,
    question: Question,
    patches: Sequence[Patch] | None = None,
    *,
    needs_poi: bool = True,
) -> Prepared:
    """Make a workspace ask a question.

    Parameters
    ----------
    workspace
        Complete or background-only workspace.
    measurement
        Name of the measurement; None: the first one.
    question
        Question.
    patches
        Signal patches of the workspace, which bring further parameters; None for a complete one.
    needs_poi
        Refuse a complete workspace without a parameter of interest. (Whether a patch brings one,
        engines say for each.)

    Raises
    ------
    PalletError
        The workspace has no such measurement, parameter, channel or bin, or a parameter cannot be
        what it should be.
    """
    for name in ("signal", "uncertainties", "fix"):
        if not isinstance(getattr(question, name) or {}, Mapping):
            raise PalletError(
                f"`{name}` is no mapping from names to numbers.",
                remedy=f"Give a dictionary, such as {name}={{'NAME': 0.1}}.",
            )
    try:
        of_model = replace(question, channels=None, mask=None, asimov=None, blind=None)
        if patches is not None and needs_poi and of_model == Question():
            return Prepared(workspace, _measurement(workspace, measurement)["config"]["poi"])
        return _Asker(workspace, measurement, patches).ask(question, needs_poi=needs_poi)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise PalletError(
            f"The workspace has another shape than pyhf's schema says ({error!r}).",
            remedy="Correct the workspace.",
        ) from None


def signal_patch(
    workspace: Spec,
    measurement: str | None,
    question: Question,
    name: str,
) -> tuple[Patch, tuple[str, ...]]:
    """Make the patch of a question about yields, which many signals of a workspace share.

    Parameters
    ----------
    workspace, measurement, question
        As of :func:`ask`; the question has a `signal`.
    name
        Name of the patch.

    Returns
    -------
    tuple
        A patch that makes of the workspace what :func:`ask` makes of it, and remarks.

    Raises
    ------
    PalletError
        As :func:`ask`.
    """
    prepared = ask(workspace, measurement, question)
    operations: list[dict[str, Any]] = []
    for section, last in (("channels", "/samples/-"), ("measurements", "")):
        pairs = zip(workspace[section], prepared.workspace[section], strict=True)
        for position, (before, after) in enumerate(pairs):
            if after is not before:
                path = f"/{section}/{position}{last}"
                value = after["samples"][-1] if last else after
                kind = "add" if last else "replace"
                operations.append({"op": kind, "path": path, "value": value})
    return Patch(name, (), operations), prepared.remarks


class _Asker:
    """The changes of one workspace."""

    def __init__(
        self, workspace: Spec, measurement: str | None, patches: Sequence[Patch] | None
    ) -> None:
        self.workspace, self.patches = workspace, patches or ()
        self.complete = patches is None
        self.measurement = _measurement(workspace, measurement)
        self.remarks: list[str] = []

    def ask(self, question: Question, *, needs_poi: bool) -> Prepared:
        """Change what the question asks to be changed."""
        old = self.measurement["config"]["poi"]
        poi = old if question.poi is None else question.poi
        workspace, fixed = self.workspace, dict(question.fix)
        changed: dict[str, Spec] = {}
        if question.uncertainties and question.signal is None:
            raise PalletError(
                "`uncertainties` are those of a `signal`, and there is none.",
                remedy="Give the yields with `signal`, or leave `uncertainties` out.",
            )
        if question.signal is not None or question.signal_in is not None:
            self._check_signal(question)
            if old in parameters_of(workspace) and old not in fixed:
                fixed[old] = 0.0
                self.remarks.append(f"the workspace's own signal strength {old!r} is fixed at 0")
            workspace, settings = (
                self._with_signal(question.signal_in)
                if question.signal_in is not None
                else self._with_yields(question, old)
            )
            poi = settings["name"]
            changed[poi] = settings
        elif not poi:
            if needs_poi:
                raise self._without_poi(question)
            workspace, poi = _with_empty_samples(workspace), NONE
            changed[poi] = {"name": poi, "inits": [0.0], "bounds": [[0.0, 1.0]]}
        elif question.poi is not None:
            self._check_poi(poi)
        elif self.complete and poi not in parameters_of(workspace):
            raise self._without_signal(poi)
        for name, value in fixed.items():
            changed[name] = self._fixed(name, value, poi)
        if changed or poi != old:
            workspace = self._with_config(workspace, poi, changed)
        return Prepared(workspace, "" if poi == NONE else poi, tuple(self.remarks))

    def _check_signal(self, question: Question) -> None:
        """Refuse a second signal, and a parameter of interest beside the events' own."""
        if question.signal is not None and (not self.complete or question.signal_in is not None):
            raise PalletError(
                "A `signal` of yields has to be the only one.",
                remedy="Leave out patches and `signal_in`, or `signal`.",
            )
        if question.signal_in is not None and question.poi is not None:
            raise PalletError(
                "A signal of one event has a parameter of interest of its own, and not "
                f"{question.poi!r}.",
                remedy="Leave out `poi`, or `signal_in`.",
            )

    def _with_config(self, workspace: Spec, poi: str, changed: Mapping[str, Spec]) -> Spec:
        """Change parameter of interest and settings of parameters in the measurement."""
        config = self.measurement["config"]
        unchanged = [entry for entry in config["parameters"] if entry["name"] not in changed]
        config = {**config, "poi": poi, "parameters": [*unchanged, *changed.values()]}
        measurements = [
            {**entry, "config": config} if entry is self.measurement else entry
            for entry in workspace["measurements"]
        ]
        return {**workspace, "measurements": measurements}

    # ------------------------------------------------------------------ parameters

    def _kinds(self, name: str) -> dict[str, tuple[str, int]]:
        """Give kinds and sizes of parameters: of the background, and of patches up to a name."""
        kinds = parameters_of(self.workspace)
        for patch in self.patches:
            if name in kinds:
                break
            try:
                kinds = {**parameters_of(apply_sharing(self.workspace, patch)), **kinds}
            except (PalletfitError, ValueError):
                continue  # its own record says so
        return kinds

    def _without_poi(self, question: Question) -> PalletError:
        chosen = question.poi is not None
        measurement = self.measurement["name"]
        return PalletError(
            "This needs a parameter of interest."
            if chosen
            else f"The measurement {measurement!r} names no parameter of interest.",
            remedy=f"Choose one with `poi`. {_normfactors(self._kinds(NONE))} A fit, pulls and the "
            "goodness of fit need none.",
        )

    def _without_signal(self, poi: str) -> PalletError:
        measurement = self.measurement["name"]
        return PalletError(
            f"No sample carries the parameter of interest {poi!r} that the measurement "
            f"{measurement!r} names: the workspace has no signal.",
            remedy="Add a signal by a patch, or one of one event with `signal_in`; or choose "
            f"another `poi`. {_normfactors(self._kinds(NONE))} An empty `poi` fits without one.",
        )

    def _check_poi(self, name: str) -> None:
        kinds = self._kinds(name)
        norms = [other for other, (kind, _) in kinds.items() if kind == NORM]
        listed = _normfactors(kinds)
        if name not in kinds:
            raise PalletError(
                f"The model has no parameter {name!r}, which should be the parameter of interest.",
                remedy=f"{did_you_mean(name, norms)}{listed}",
            )
        if kinds[name][0] != NORM:
            raise PalletError(
                f"The parameter {name!r} is no normfactor, but the modifier of a {kinds[name][0]}: "
                "it cannot be the parameter of interest.",
                remedy=f"Choose one that scales a signal. {listed}",
            )

    def _fixed(self, name: str, value: float | None, poi: str) -> Spec:
        """Give the settings of a parameter that is fixed."""
        kinds = self._kinds(name)
        if name not in kinds:
            raise PalletError(
                f"The model has no parameter {name!r} that could be fixed.",
                remedy=did_you_mean(name, kinds).strip() or f"It has {_listed(kinds)}.",
            )
        if name == poi:
            raise PalletError(
                f"The parameter of interest {name!r} cannot be fixed beside the fits' own values.",
                remedy="Choose the tested value with `mu`, or another parameter of interest.",
            )
        settings = self.measurement["config"]["parameters"]
        present = [entry for entry in settings if entry["name"] == name]
        fixed = {**(present[0] if present else {}), "name": name, "fixed": True}
        if value is not None:
            fixed["inits"] = [float(value)] * kinds[name][1]
        return fixed

    # ------------------------------------------------------------------ a signal of one event

    def _with_signal(self, region: str) -> tuple[Spec, Spec]:
        """Add a signal of one event to a region; give the settings of its parameter, too."""
        names = [channel["name"] for channel in self.workspace["channels"]]
        name, number = _split_region(region, names)
        observed = {entry["name"]: entry["data"] for entry in self.workspace["observations"]}
        position = names.index(name)
        channel = self.workspace["channels"][position]
        bins = len(observed[name])
        if number is not None and not 1 <= number <= bins:
            raise PalletError(
                f"The channel {name!r} has no bin {number}.",
                remedy=f"Bins are counted from 1; its last one is {bins}.",
            )
        if number is None and bins > 1:
            self.remarks.append(
                f"the event is spread evenly over the {bins} bins of {name!r}, which is a model; "
                f"{name}:1 names a bin"
            )
        chosen = range(bins) if number is None else [number - 1]
        yields = [1.0 / len(chosen) if index in chosen else 0.0 for index in range(bins)]
        poi = f"events_{name}" if number is None or bins == 1 else f"events_{name}_bin{number}"
        while poi in parameters_of(self.workspace):
            poi += "_"
        sample = {"name": SIGNAL, "data": yields, "modifiers": [_normfactor(poi)]}
        expected = sum(entry["data"][index] for entry in channel["samples"] for index in chosen)
        room = _MORE + sum(observed[name][index] for index in chosen) + max(expected, 0.0)
        channels = list(self.workspace["channels"])
        channels[position] = {**channel, "samples": [*channel["samples"], sample]}
        settings = {"name": poi, "inits": [1.0], "bounds": [[0.0, _ROOM * room]]}
        return {**self.workspace, "channels": channels}, settings

    # ------------------------------------------------------------------ a signal of yields

    def _with_yields(self, question: Question, old: str) -> tuple[Spec, Spec]:
        """Add a signal to the channels that have some; give the settings of its strength, too."""
        kinds = parameters_of(self.workspace)
        poi = question.poi or (old if old and old not in kinds else SIGNAL_STRENGTH)
        while not question.poi and poi in kinds:
            poi += "_"
        if question.poi == "" or poi in kinds:
            raise PalletError(
                "A signal has a parameter of interest."
                if question.poi == ""
                else f"The strength of the signal cannot be {poi!r}.",
                remedy="Choose a name with `poi` that the workspace does not have, or leave it "
                "out.",
            )
        modifiers = [_normfactor(poi)]
        for name, size in (question.uncertainties or {}).items():
            modifiers.append(self._uncertainty(name, size, kinds))
        observed = {entry["name"]: entry["data"] for entry in self.workspace["observations"]}
        yields = _signal_yields(
            question.signal or {}, {name: len(data) for name, data in observed.items()}
        )
        channels = [
            {
                **channel,
                "samples": [
                    *channel["samples"],
                    {
                        "name": _unused(YIELDS, channel),
                        "data": yields[channel["name"]],
                        "modifiers": modifiers,
                    },
                ],
            }
            if channel["name"] in yields
            else channel
            for channel in self.workspace["channels"]
        ]
        present = [
            entry for entry in self.measurement["config"]["parameters"] if entry["name"] == poi
        ]
        settings = {"name": poi, "inits": [1.0], **(present[0] if present else {})}
        settings.setdefault("bounds", [[0.0, self._largest_strength(yields, observed)]])
        return {**self.workspace, "channels": channels}, settings

    def _largest_strength(
        self, yields: Mapping[str, Sequence[float]], observed: Mapping[str, Sequence[float]]
    ) -> float:
        """Give room for many times what is expected and observed in the bins with signal."""
        events = room = 0.0
        for channel in self.workspace["channels"]:
            for index, value in enumerate(yields.get(channel["name"], ())):
                if value > 0:
                    expected = sum(entry["data"][index] for entry in channel["samples"])
                    events += value
                    room += observed[channel["name"]][index] + max(expected, 0.0)
        return max(10.0, _ROOM * (_MORE + room) / events)

    def _uncertainty(
        self, name: str, size: float, kinds: Mapping[str, tuple[str, int]]
    ) -> dict[str, Any]:
        """Make the modifier of a relative uncertainty of the signal."""
        if not (isinstance(size, Real) and 0 <= size < 1):
            raise PalletError(
                f"The relative uncertainty {name!r} of the signal is {size!r}.",
                remedy="Give a number from 0 to below 1: 0.1 is 10%.",
            )
        if name in kinds and kinds[name][0] != ALPHA:
            raise PalletError(
                f"The uncertainty {name!r} of the signal has the name of a parameter of the "
                f"workspace that is no systematic uncertainty ({kinds[name][0]}).",
                remedy="Choose another name.",
            )
        data = {"lo": 1.0 - float(size), "hi": 1.0 + float(size)}
        return {"name": name, "type": "normsys", "data": data}


def _signal_yields(
    signal: Mapping[str, float | Sequence[float]], bins: Mapping[str, int]
) -> dict[str, list[float]]:
    """Check the yields of a signal, by channel."""
    yields: dict[str, list[float]] = {}
    for name, entry in signal.items():
        if name not in bins:
            raise PalletError(
                f"The workspace has no channel {name!r}, which should have a signal.",
                remedy=f"{did_you_mean(name, bins)}It has {_listed(bins)}.",
            )
        several = isinstance(entry, Iterable) and not isinstance(entry, str)
        values: list[Any] = list(entry) if several else [entry]  # type: ignore[arg-type]
        if not all(isinstance(value, Real) for value in values):
            raise PalletError(
                f"The signal has yields in the channel {name!r} that are no numbers.",
                remedy="Give one number for each bin.",
            )
        if len(values) != bins[name]:
            raise PalletError(
                f"The signal has {len(values)} yields in the channel {name!r}, which has "
                f"{bins[name]} bins.",
                remedy="Give one number for each bin.",
            )
        yields[name] = [float(value) for value in values]
        wrong = [value for value in yields[name] if not 0 <= value < float("inf")]
        if wrong:
            raise PalletError(
                f"The signal has a yield of {wrong[0]:g} in the channel {name!r}.",
                remedy="Give finite numbers of events, zero or above.",
            )
    if not any(value > 0 for values in yields.values() for value in values):
        raise PalletError(
            "The signal has no events in any channel.",
            remedy="Give the expected events of the channels that have some.",
        )
    return yields


def _unused(name: str, channel: Spec) -> str:
    """Give a name that no sample of a channel has."""
    names = {sample["name"] for sample in channel["samples"]}
    while name in names:
        name += "_"
    return name


def _measurement(workspace: Spec, name: str | None) -> Spec:
    try:
        return measurement_of(workspace, name)
    except Unsupported:
        names = [entry["name"] for entry in workspace["measurements"]]
        if not names:
            raise PalletError(
                "The workspace has no measurement.",
                remedy="Add one: its name, its parameter of interest and settings of parameters.",
            ) from None
        raise PalletError(
            f"The workspace has no measurement {name!r}.",
            remedy=f"{did_you_mean(str(name), names)}It has {_listed(names)}.",
        ) from None


def _with_empty_samples(workspace: Spec) -> Spec:
    """Add a sample without events to every channel, of which a patch may remove all but one."""
    channels = [
        {
            **channel,
            "samples": [
                *channel["samples"],
                {
                    "name": NONE,
                    "data": [0.0] * len(channel["samples"][0]["data"]),
                    "modifiers": [_normfactor(NONE)],
                },
            ],
        }
        for channel in workspace["channels"]
    ]
    return {**workspace, "channels": channels}


def _normfactor(name: str) -> dict[str, Any]:
    return {"name": name, "type": NORM, "data": None}


def _split_region(region: str, channels: Sequence[str]) -> tuple[str, int | None]:
    """Split ``CHANNEL:BIN``; a channel's name may hold a colon itself."""
    if region in channels:
        return region, None
    name, _, number = region.rpartition(":")
    if name in channels and number.isdecimal():
        return name, int(number)
    wrong = name if number.isdecimal() and name else region
    raise PalletError(
        f"The workspace has no channel {wrong!r}.",
        remedy=f"{did_you_mean(wrong, channels)}It has {_listed(channels)}; CHANNEL:BIN names a "
        "bin, counted from 1.",
    )


def has_no_poi(workspace: Spec, measurement: str | None) -> bool:
    """Say whether a workspace was changed by :func:`ask` to have no parameter of interest."""
    try:
        return bool(measurement_of(workspace, measurement)["config"]["poi"] == NONE)
    except (KeyError, TypeError, Unsupported):
        return False  # the engine says what is wrong


def without_poi(fit: BestFit) -> BestFit:
    """Take the parameter that stands for none out of a fit."""
    if NONE not in fit.parameters:
        return fit
    names = list(fit.parameters)
    positions = [index for index, name in enumerate(names) if name != NONE]
    return replace(
        fit,
        parameters={names[index]: fit.parameters[names[index]] for index in positions},
        errors={names[index]: fit.errors[names[index]] for index in positions},
        covariance=fit.covariance[positions][:, positions],
    )


def _normfactors(kinds: Mapping[str, tuple[str, int]]) -> str:
    """Write which parameters can be the parameter of interest."""
    norms = [name for name, (kind, _) in kinds.items() if kind == NORM]
    return f"The normfactors are {_listed(norms)}." if norms else "There is no normfactor."


def _listed(names: Iterable[str], longest: int = 8) -> str:
    """Write names, but not too many of them."""
    ordered = sorted(names)
    text = ", ".join(map(repr, ordered[:longest]))
    return text + (f" and {len(ordered) - longest} more" if len(ordered) > longest else "")
