"""The command line: ``palletfit hypotest``, ``palletfit limit`` and so on.

Each command is a module of this package with an object ``command``. The group knows their names and
short descriptions, and imports a module only when its command is called: ``palletfit --help`` and
the completion of a shell stay quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from palletfit.cli.ending import ending
from palletfit.core.text import did_you_mean
from palletfit.core.version import __version__

#: Modules of commands, and their short descriptions, in the order of the help.
COMMANDS = {
    "hypotest": "Test signals: CLs, or p0 of a discovery.",
    "limit": "Find upper limits on the signal strength, or on events.",
    "scan": "Compute CLs against the signal strength.",
    "fit": "Fit a model to its data.",
    "pulls": "Show the pulls of a fit, and impacts.",
    "yields": "Show yields of a fit, and their uncertainties.",
    "impacts": "Show the parts of groups of parameters in the uncertainty.",
    "likelihood": "Scan the likelihood in one parameter, with intervals.",
    "contours": "Find contours of the likelihood in two parameters.",
    "gof": "Test how well a model describes its data.",
    "toys": "Compute CLs from pseudo-experiments.",
    "referee": "Say where a learned likelihood (ONNX) is wrong.",
    "serve": "Answer points of other programs: JSON lines in, JSON lines out.",
    "inspect": "Say what is in a published likelihood.",
    "catalogue": "List published likelihoods.",
    "run": "Run the workflow: all signals of an analysis.",
}
#: Variable by which a shell asks for completion.
_COMPLETION = "_PALLETFIT_COMPLETE"


class Commands(click.Group):
    """Commands that are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """List the commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of this name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"{__name__}.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is called; offer close names for an unknown one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            hint = did_you_mean(args[0], self.list_commands(ctx))
            raise click.UsageError(f"{error.format_message()} {hint}".rstrip(), ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write names and short descriptions, without an import."""
        rows = [(name, COMMANDS[name]) for name in self.list_commands(ctx)]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command; end the program with a code and without a traceback."""
        if not standalone_mode or os.environ.get(_COMPLETION):
            return super().main(args, prog_name, complete_var, standalone_mode, **extra)
        # The method of click ends with the code of a failed fit where a pipe is closed.
        words = sys.argv[1:] if args is None else list(args)
        sys.exit(ending(lambda: self._run(prog_name or "palletfit", words, extra)))

    def _run(self, name: str, words: list[str], extra: Mapping[str, Any]) -> int | None:
        """Run a command, and name it in errors of its options."""
        with self.make_context(name, words, **extra) as context:
            try:
                code: int | None = self.invoke(context)
            except click.UsageError as error:
                called = context.invoked_subcommand
                command = self.get_command(context, called) if called else None
                if error.ctx is None and command is not None:
                    error.ctx = click.Context(command, context, called)
                raise
            return code


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="palletfit")
def main() -> None:
    """Statistical inference on published likelihoods.

    `palletfit COMMAND --help` explains a command, with an example.
    """
