"""The end of a command: its exit code, and its last words where it ends with an error."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress

import click

from palletfit.core.text import printable, printable_lines
from palletfit.errors import FitError, PalletfitError, StoreError

#: Exit codes. The last is that of a program that SIGPIPE ends.
DONE, NOT_TRUSTED, WRONG_INPUT, INTERRUPTED, CLOSED_PIPE = 0, 1, 2, 130, 141
#: Options, by patterns of what errors of the library say instead.
_OPTIONS = {
    # A measurement's own entry has this name, too.
    r"(?<!measurement's )`poi`": "`--poi`",
    r"`signal_in`": "`--signal-in`",
    r"`signal`": "`--signal`",
    r"`uncertainties`": "`--uncertainty`",
    r'`?\bchannels=\["CR\*"\]`?': "--channel 'CR*'",
    r'`?\bblind=\["CR\*"\]`?': "--blind 'CR*'",
    r'\bmask=\{"SR": \[0, 1\]\}': "--mask 'SR[0,1]'",
    r"\basimov=0\b": "--asimov 0",
    r"`channels`": "`--channel`",
    r"`blind`": "`--blind`",
    r"`mask`": "`--mask`",
    r"`asimov`": "`--asimov`",
    r"`groups`": "`--group`",
    r"`conventions\.(\w+)`": r"`--\1`",
    r"`conventions`": "`--conventions`",
    r"`ranges`": "`--range`",
    r"`random`": "`--random`",
    r"`mu`|`fit\.mu`": "`--mu`",
    r"`fit\.measurement`": "`--measurement`",
    r"`fit\.minimum`": "`--minimum`",
    r"`fit\.test_statistic: (\w+)`": r"`--test-statistic \1`",
    r"`fit\.engine: (\w+)`": r"`--engine \1`",
    r"`limits\.mu_max`|\blimits\.mu_max\b": "`--mu-max`",
    r"\bmu_scan\.range\b": "--range",
    r"set `digest: ignore` for the region in the analysis file": "use `--no-check`",
    r"\bdownload\.offline forbids": "--offline forbids",
    r"Set download\.cache to a folder and put the file there as": "Name a folder with "
    "`--cache FOLDER`, and put the file there as",
    r"add ('[^']*') to download\.allowed_hosts": r"use `--allow-host` with \1",
    r"If you trust (it|them), raise download\.max_\w+\.": "This is a bound of palletfit, for "
    "which there is no option: give only the part that you need.",
}


def ending(run: Callable[[], int | None]) -> int:
    """Run a command; write the message of an error to the standard error.

    Returns
    -------
    int
        The exit code: what the command gives (None is zero), 1 if a fit failed, 2 if the input is
        wrong or the output cannot be written, 130 if the user interrupted it, 141 if the reader of
        the output has closed it.
    """
    try:
        code = run() or DONE
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return WRONG_INPUT
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "palletfit"
        _complain(f"{error.format_message()}\n  remedy: See `{command} --help`.")
        return WRONG_INPUT
    except click.ClickException as error:
        _complain(error.format_message())
        return WRONG_INPUT
    except PalletfitError as error:
        report(error)
        return NOT_TRUSTED if isinstance(error, FitError) else WRONG_INPUT
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has enough.
        _discard_output()
        return CLOSED_PIPE
    except OSError as error:
        _discard_output()
        of_file = f"\n  file:   {printable(str(error.filename))}" if error.filename else ""
        problem = f"The operating system says: {error.strerror or error}.{of_file}"
        _complain(f"{problem}\n  remedy: Check paths, permissions and the space on the disk.")
        return WRONG_INPUT


def report(error: PalletfitError) -> None:
    """Write an error to the standard error, with options instead of arguments and settings."""
    problem, remedy = error.problem, error.remedy
    if isinstance(error, StoreError):
        # Commands keep nothing: they cannot go on where they stopped.
        problem = problem.replace("; finished patches are kept", "")
        remedy = "Choose another file, or make its folder writable, with space on its disk."
    lines = [for_shell(problem)]
    lines += [f"  file:   {printable(error.file)}"] if error.file is not None else []
    lines += [f"  patch:  {printable(error.patch)}"] if error.patch is not None else []
    _complain("\n".join([*lines, f"  remedy: {for_shell(remedy)}"]))


def for_shell(text: str) -> str:
    """Name options instead of the library's arguments and settings."""
    for pattern, option in _OPTIONS.items():
        text = re.sub(pattern, option, text)
    return text


def _discard_output() -> None:
    """Let the standard output lead to nowhere, with what waits to be written."""
    with suppress(AttributeError, OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str) -> None:
    with suppress(OSError):
        click.echo(printable_lines(f"error: {text}"), err=True)
