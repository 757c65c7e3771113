"""Arguments that commands share: the likelihood, the question to it, and the engine.

Nothing here imports physics: the help of a command is quick.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import click

from palletfit.cli.output import Output
from palletfit.core.text import printable
from palletfit.errors import PalletError

#: The standard input.
STDIN = "-"
#: Characters of the name in the title of a plot.
_TITLE = 80


class _Finite(click.ParamType):
    """Refuses infinity, and what is no number."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class FiniteFloat(_Finite, click.types.FloatParamType):
    """Finite number."""


class FiniteRange(_Finite, click.FloatRange):
    """Finite number within bounds."""


#: Finite number without bounds.
NUMBER = FiniteFloat()


@dataclass(frozen=True)
class Inputs:
    """The likelihood and the question to it.

    Attributes
    ----------
    workspace
        Path of the workspace, or ``-`` for the standard input.
    patchset
        Path of a patchset or of the operations of a patch; None: by `patches`, or none at all.
    patches
        Names or shell patterns of patches; without a patchset files of operations.
    check
        Validate files.
    settings
        Settings of fits, and the question.
    progress
        Show progress.
    """

    workspace: str
    patchset: str | None
    patches: tuple[str, ...]
    check: bool
    settings: Mapping[str, Any] = field(default_factory=dict)
    progress: bool = False

    @property
    def title(self) -> str:
        """Name of the likelihood in tables and plots, with the regions of the fit."""
        name = "standard input" if self.workspace == STDIN else Path(self.workspace).name
        channels = [*self.settings.get("channels", ())]
        words = [name, f"channels {' '.join(channels)}" if channels else "", self._data()]
        return printable(", ".join(filter(None, words)))

    def _data(self) -> str:
        """Say which data are not the observed ones."""
        if "blind" in self.settings:
            return f"blinded {' '.join(self.settings['blind'])}"
        return "Asimov data" if "asimov" in self.settings else ""

    def title_of(self, patch: str) -> str:
        """Name of the likelihood with a patch, in the title of a plot."""
        from palletfit.products.diagnostics.plots import shorten

        return shorten(f"{self.title}, {patch}" if patch else self.title, _TITLE)

    @property
    def subject(self) -> str:
        """Name of the parameter of interest in titles."""
        if "signal_in" in self.settings:
            return "events"
        return printable(self.settings.get("poi") or "mu")

    def fixed(self, mu: float | None) -> str:
        """Write in a title where the parameter of interest is fixed, or nothing."""
        return "" if mu is None else f", {self.subject} = {mu:g} fixed"

    def arguments(self) -> dict[str, Any]:
        """Give the arguments of a function of :mod:`palletfit.api`; read the standard input.

        Raises
        ------
        PalletError
            A file is not what it should be.
        """
        from palletfit.pallet.files import parse_pallet_json

        workspace: Any = self.workspace
        if workspace == STDIN:
            content = click.get_binary_stream("stdin").read()
            workspace = parse_pallet_json(content, Path("standard input"))
        arguments = {
            "workspace": workspace,
            "patchset": self.patchset,
            "check": self.check,
            "progress": self.progress,
            **self.settings,
        }
        if self.patchset is None and self.patches:
            return {**arguments, "patchset": self._of_files()}
        return {**arguments, "patches": list(self.patches) or "*"}

    def _of_files(self) -> Any:
        """Make a patchset of files of operations, one a patch, named as the files are."""
        from palletfit.pallet.files import read_pallet_json
        from palletfit.pallet.patches import Patch
        from palletfit.pallet.patchset import Patchset

        patches: dict[str, Patch] = {}
        for path in map(Path, self.patches):
            operations = read_pallet_json(path)
            name = path.name.removesuffix(".gz").removesuffix(".json")
            if not isinstance(operations, list):
                raise PalletError(
                    "The file holds no operations of a patch, which are a list.",
                    remedy="Give a patchset with --patchset, and the names of its patches with "
                    "--patch.",
                    file=path,
                )
            if name in patches:
                raise PalletError(
                    f"Two files of patches have the name {name!r}.",
                    remedy="Rename one of them.",
                    file=path,
                )
            patches[name] = Patch(name, (), operations)
        return Patchset((), tuple(patches.values()))


def takes_likelihood(
    *, statistic: bool = False, engine: bool = True
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command the arguments of the likelihood, the question and the output.

    The command's function gets :class:`Inputs` and :class:`palletfit.cli.output.Output` first, then
    its own options by name, and returns the exit code.

    Parameters
    ----------
    statistic
        The command has a test statistic.
    engine
        The command may use the reference engine.
    """

    def decorate(function: Callable[..., int]) -> Callable[..., int]:
        @wraps(function)
        def command(**options: Any) -> int:
            output = Output(
                plain=options.pop("as_json"),
                plot=options.pop("plot"),
                verbose=options.pop("verbose"),
            )
            output.prepare()
            return function(_inputs(options, verbose=output.verbose), output, **options)

        chosen = [*_SOURCE, *_QUESTION]
        chosen += _STATISTIC if statistic else []
        chosen += _ENGINE if engine else []
        decorated: Callable[..., int] = command
        for option in reversed([*chosen, *_OUTPUT]):
            decorated = option(decorated)
        return decorated

    return decorate


def _inputs(options: dict[str, Any], *, verbose: bool) -> Inputs:
    """Take the options of the likelihood and the question out of all options."""
    sources = [options.pop("workspace"), options.pop("background")]
    files = [file for file in sources if file is not None]
    if len(files) > 1:
        raise click.UsageError("WORKSPACE and --background are the same: give one of them.")
    if not files:
        raise click.UsageError("There is no WORKSPACE.")
    settings: dict[str, Any] = {}
    plain = ("measurement", "poi", "signal_in", "asimov", "test_statistic", "engine", "minimum")
    for name in plain:
        value = options.pop(name, None)
        if value is not None:
            settings[name] = value
    regions = {"channels": list(options.pop("channel")), "blind": list(options.pop("blind"))}
    settings |= {name: patterns for name, patterns in regions.items() if patterns}
    mask = _masked(options.pop("mask"))
    if mask:
        settings["mask"] = mask
    fixed = dict(map(_fixed, options.pop("fix")))
    signal = _once(options.pop("signal"), "--signal")
    sizes = _once(options.pop("uncertainty"), "--uncertainty")
    if signal:
        settings["signal"] = signal
    if sizes:
        settings["uncertainties"] = {name: numbers[0] for name, numbers in sizes.items()}
    return Inputs(
        workspace=files[0],
        patchset=options.pop("patchset"),
        patches=tuple(options.pop("patch")),
        check=options.pop("check"),
        settings={**settings, **({"fix": fixed} if fixed else {})},
        progress=verbose or (sys.stderr is not None and sys.stderr.isatty()),
    )


def _fixed(text: str) -> tuple[str, float | None]:
    """Read ``NAME=VALUE``, or ``NAME``."""
    name, equals, value = text.rpartition("=")
    if not equals:
        return text, None
    try:
        return name, NUMBER.convert(value, None, None)
    except click.BadParameter as error:
        raise click.BadParameter(
            error.message, param_hint="'--fix'", ctx=click.get_current_context()
        ) from None


def _once(texts: Sequence[str], option: str) -> dict[str, list[float]]:
    """Read numbers by name, each name once."""
    numbers: dict[str, list[float]] = {}
    for text in texts:
        name, values = _numbers(text, option)
        if name in numbers:
            raise click.BadParameter(
                f"{name!r} is there twice.",
                param_hint=f"'{option}'",
                ctx=click.get_current_context(),
            )
        numbers[name] = values
    return numbers


def _numbers(text: str, option: str) -> tuple[str, list[float]]:
    """Read ``NAME=NUMBER,NUMBER``; an uncertainty has one number."""
    name, equals, values = text.rpartition("=")
    numbers = values.split(",")
    hint, context = f"'{option}'", click.get_current_context()
    if not equals or not name:
        raise click.BadParameter(f"{text!r} is not NAME=NUMBER.", param_hint=hint, ctx=context)
    if option == "--uncertainty" and len(numbers) > 1:
        raise click.BadParameter(f"{text!r} has two numbers.", param_hint=hint, ctx=context)
    try:
        return name, [NUMBER.convert(value.strip(), None, None) for value in numbers]
    except click.BadParameter as error:
        raise click.BadParameter(error.message, param_hint=hint, ctx=context) from None


def groups_of(texts: Sequence[str]) -> dict[str, list[str]]:
    """Read groups of parameters, ``NAME=PATTERN,PATTERN``, each once or several times."""
    groups: dict[str, list[str]] = {}
    for text in texts:
        name, equals, patterns = text.partition("=")
        if not (name and equals and all(patterns.split(","))):
            raise click.BadParameter(
                f"{text!r} is not NAME=PATTERN, such as 'JES=JES_*'.",
                param_hint="'--group'",
                ctx=click.get_current_context(),
            )
        groups.setdefault(name, []).extend(patterns.split(","))
    return groups


def _masked(texts: Sequence[str]) -> dict[str, list[int]]:
    """Read ``CHANNEL[BIN]`` or ``CHANNEL[BIN,BIN]``, a channel once or several times."""
    mask: dict[str, list[int]] = {}
    for text in texts:
        name, bracket, bins = text.removesuffix("]").rpartition("[")
        numbers = [number.strip() for number in bins.split(",")]
        if not bracket or text[-1] != "]" or not all(number.isdecimal() for number in numbers):
            raise click.BadParameter(
                f"{text!r} is not CHANNEL[BIN], such as 'SR[0]' or 'SR[0,1]'.",
                param_hint="'--mask'",
                ctx=click.get_current_context(),
            )
        mask.setdefault(name, []).extend(map(int, numbers))
    return mask


_FILE = click.Path(exists=False, dir_okay=True, path_type=str)

_Options = Sequence[Callable[[Any], Any]]

_SOURCE: _Options = [
    click.argument("workspace", type=_FILE, required=False),
    click.option(
        "--background", type=_FILE, metavar="FILE", help="Background-only workspace: WORKSPACE."
    ),
    click.option(
        "--patchset", type=_FILE, metavar="FILE", help="Patchset, or operations of one patch."
    ),
    click.option(
        "--patch",
        multiple=True,
        metavar="NAME",
        help="Patch of the patchset, or a pattern such as 'C1N2_*'; without a patchset a file of "
        "operations. May be given several times.",
    ),
    click.option(
        "--check/--no-check",
        default=True,
        help="Check files against their schemas and digests. Default: --check.",
    ),
]
_QUESTION: _Options = [
    click.option("--measurement", metavar="NAME", help="Measurement; by default the first one."),
    click.option(
        "--poi",
        metavar="NAME",
        help="Parameter of interest, a normfactor; by default the measurement's. '' is none.",
    ),
    click.option(
        "--fix",
        multiple=True,
        metavar="NAME[=VALUE]",
        help="Parameter that is fixed, by default at its suggested value. May be given several "
        "times.",
    ),
    click.option(
        "--signal-in",
        metavar="CHANNEL[:BIN]",
        help="Add a signal of one event there; bins are counted from 1. The parameter of interest "
        "is then the number of its events.",
    ),
    click.option(
        "--signal",
        multiple=True,
        metavar="CHANNEL=EVENTS[,...]",
        help="Add a signal with these events in the channel's bins, which the parameter of "
        "interest multiplies. May be given several times.",
    ),
    click.option(
        "--uncertainty",
        multiple=True,
        metavar="NAME=SIZE",
        help="Relative uncertainty of all events of --signal. May be given several times.",
    ),
    click.option(
        "--channel",
        multiple=True,
        metavar="NAME",
        help="Fit only channels of this name or pattern, such as 'CR*'. May be given several "
        "times.",
    ),
    click.option(
        "--mask",
        multiple=True,
        metavar="CHANNEL[BIN,...]",
        help="Bins that do not count, counted from 0. May be given several times.",
    ),
    click.option(
        "--asimov",
        type=NUMBER,
        metavar="MU",
        help="Take Asimov data with this signal strength instead of the observed ones.",
    ),
    click.option(
        "--blind",
        multiple=True,
        metavar="NAME",
        help="Do not read what is observed in channels of this name or pattern: take what the fit "
        "to the others expects there. May be given several times.",
    ),
]
_STATISTIC: _Options = [
    click.option(
        "--test-statistic",
        type=click.Choice(["qtilde", "q"]),
        help="Test statistic of limits. Default: qtilde.",
    ),
]
_ENGINE: _Options = [
    click.option(
        "--engine",
        type=click.Choice(["batched", "reference"]),
        help="Engine: palletfit's own, or pyhf. Default: batched.",
    ),
    click.option(
        "--minimum",
        type=click.Choice(["lowest", "nearest"]),
        help="Minimum that counts where there are several. Default: lowest.",
    ),
]
_OUTPUT: _Options = [
    click.option("--json", "as_json", is_flag=True, help="Write one JSON document."),
    click.option(
        "--plot",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Write a plot, .png or .pdf.",
    ),
    click.option("-v", "--verbose", is_flag=True, help="Say what is going on."),
]
