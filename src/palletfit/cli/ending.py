"""The end of a command: its exit code, and its last words where it ends with an error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress

import click

from palletfit.errors import FitError, PalletfitError

#: Exit codes.
DONE, NOT_TRUSTED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130
#: Options, by the names that errors of the library have for them.
_OPTIONS = {
    "poi": "--poi",
    "signal_in": "--signal-in",
    "mu": "--mu",
    "fit.mu": "--mu",
    "fit.measurement": "--measurement",
    "limits.mu_max": "--mu-max",
    "fit.engine: batched": "--engine batched",
}


def ending(run: Callable[[], int | None]) -> int:
    """Run a command; write the message of an error to the standard error.

    Returns
    -------
    int
        The exit code: what the command gives (None is zero), 1 if a fit failed, 2 if the input is
        wrong, 130 if the user interrupted it.
    """
    try:
        return run() or DONE
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
        _complain(for_shell(str(error)))
        return NOT_TRUSTED if isinstance(error, FitError) else WRONG_INPUT
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe, such as `head`, has enough. What is left is written to nowhere.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE


def for_shell(text: str) -> str:
    """Name options instead of the library's arguments and settings."""
    for argument, option in _OPTIONS.items():
        text = text.replace(f"`{argument}`", f"`{option}`")
    return text


def _complain(text: str) -> None:
    click.echo(f"error: {text}", err=True)
