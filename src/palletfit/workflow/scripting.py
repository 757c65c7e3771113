"""Lets a script be a Snakemake script and a command-line program at once.

A script defines ``main`` with typed keyword arguments and calls :func:`run`. Under Snakemake the
arguments come from the rule (its input, output, wildcards, threads and config), elsewhere from the
command line.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import sys
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from palletfit.config import Analysis, Settings, load_analyses, parse, read_yaml, with_members
from palletfit.core.text import printable_lines
from palletfit.errors import PalletfitError
from palletfit.runs import registry
from palletfit.runs.product import Product
from palletfit.runs.state import end_with_run
from palletfit.workflow.ending import INTERRUPTED, Failure, note_failure

logger = logging.getLogger(__name__)

#: Files of all outputs of a rule, by the output's name.
Outputs = dict[str, list[Path]]


def run(main: Callable[..., None], namespace: Mapping[str, Any]) -> None:
    """Call a script's ``main``; errors that a user can act on end it with a message, not a trace.

    Parameters
    ----------
    main
        Takes keyword arguments only. Special types: `Settings` is the configuration, `Analysis`
        the analysis that the wildcard (or option) ``analysis`` names, `dict[str, Analysis]` all
        selected ones (on the command line only beside `Settings`), `type[Product]` the product of
        a name, `Outputs` all outputs; ``cores`` is the rule's number of threads. All other names
        are inputs, outputs, wildcards or parameters of the rule.
    namespace
        ``globals()`` of the script.
    """
    rule = namespace.get("snakemake")
    scripts = Path(str(namespace["__file__"])).resolve().parent
    folder = scripts.parent / "config" / "analyses"
    try:
        if rule is not None:
            folder = Path(rule.scriptdir).parent / "config" / "analyses"
            _set_up_logging(Path(rule.log[0]) if rule.log else None)
            end_with_run()
            arguments = _from_rule(main, rule, folder)
        else:
            _set_up_logging(None)
            arguments = _from_command_line(main, folder)
        main(**arguments)
    except PalletfitError as error:
        _note(rule, str(error))
        logger.error("%s", error)
        sys.exit(1)
    except KeyboardInterrupt:
        _note(rule, INTERRUPTED)
        logger.error("Interrupted. What is finished is kept; run the same command again to go on.")
        sys.exit(130)


def _note(rule: Any, reason: str) -> None:
    """Note for the last words of the run why this step failed."""
    if rule is None:
        return
    subject = "/".join(str(value) for value in rule.wildcards if value)
    step = f"{rule.rule} of {subject}" if subject else str(rule.rule)
    note_failure(Failure(step, reason, str(rule.log[0]) if rule.log else ""))


class _Printable(logging.Formatter):
    """Lines without characters of untrusted names that could control a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        return printable_lines(super().format(record))


def _set_up_logging(path: Path | None) -> None:
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(_Printable("%(message)s"))
    handlers: list[logging.Handler] = [terminal]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(path, mode="w", encoding="utf-8")
        file.setFormatter(_Printable("%(asctime)s %(levelname)s %(message)s"))
        handlers.append(file)
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)
    for name in ("pyhf", "jax", "absl", "matplotlib", "fontTools"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _from_rule(main: Callable[..., None], rule: Any, folder: Path) -> dict[str, Any]:
    settings = parse(Settings, rule.config, file="config/config.yaml")
    registry.add(settings)
    arguments: dict[str, Any] = {}
    for name, kind in _types(main).items():
        if kind is Settings:
            arguments[name] = settings
        elif kind is Analysis:
            selected = load_analyses(settings, folder)
            arguments[name] = with_members(selected, folder)[rule.wildcards[name]]
        elif kind == dict[str, Analysis]:
            arguments[name] = load_analyses(settings, folder)
        elif kind == Outputs:
            arguments[name] = {key: _paths(rule.output[key]) for key in rule.output.keys()}  # noqa: SIM118
        elif name == "cores":
            arguments[name] = rule.threads
        else:
            default = inspect.signature(main).parameters[name].default
            value = _look_up(rule, name, default)
            arguments[name] = value if value is default else _convert(value, kind)
    return arguments


def _look_up(rule: Any, name: str, default: Any) -> Any:
    for source in (rule.input, rule.output, rule.wildcards, rule.params):
        if name in source.keys():  # noqa: SIM118  Snakemake's lists have keys beside items
            return source[name]
    if default is not inspect.Parameter.empty:
        return default
    raise KeyError(f"rule {rule.rule} has no input, output, wildcard or parameter {name!r}")


def _paths(value: Any) -> list[Path]:
    return [Path(path) for path in ([value] if isinstance(value, str) else value)]


def _product(name: str) -> type[Product]:
    """Find the product of a name; argparse says which value is wrong."""
    if name not in registry.names():
        raise argparse.ArgumentTypeError(f"there is no product {name!r}")
    return registry.find(name)


def _output(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH")
    return name, Path(path)


def _convert(value: Any, kind: Any) -> Any:
    if kind == type[Product]:
        return _product(value)
    if typing.get_origin(kind) is list:
        inner = typing.get_args(kind)[0]
        return [inner(part) for part in ([value] if isinstance(value, str) else value)]
    return kind(value)


def _from_command_line(main: Callable[..., None], folder: Path) -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        description=inspect.getdoc(main), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    types = _types(main)
    for name, kind in types.items():
        _add_option(parser, name, kind, inspect.signature(main).parameters[name].default, folder)
    options = vars(parser.parse_args())
    return {name: _argument(name, kind, options, folder) for name, kind in types.items()}


def _add_option(
    parser: argparse.ArgumentParser, name: str, kind: Any, default: Any, folder: Path
) -> None:
    """Add the option of a parameter of a script's ``main``."""
    required = default is inspect.Parameter.empty
    options: dict[str, Any] = {"required": required, "default": None if required else default}
    if kind is Settings:
        options = {
            "type": Path,
            "default": folder.parent / "config.yaml",
            "dest": name,
            "help": "settings",
        }
        parser.add_argument("--config", **options)
        return
    if kind == dict[str, Analysis]:
        return  # the settings name them
    if kind is Analysis:
        options |= {"help": "name, or path of a YAML file"}
    elif kind == Outputs:
        options |= {"nargs": "+", "type": _output, "metavar": "NAME=PATH"}
    elif typing.get_origin(kind) is list:
        options |= {"nargs": "+", "type": typing.get_args(kind)[0]}
        options["default"] = None if required else [*default]
    else:
        options |= {"type": _product if kind == type[Product] else kind}
    parser.add_argument(f"--{name}", **options)


def _argument(name: str, kind: Any, options: Mapping[str, Any], folder: Path) -> Any:
    """Return the value of a parameter of a script's ``main`` from the command line's options."""
    if kind is Settings:
        return parse(Settings, read_yaml(options[name]), file=options[name])
    if kind is Analysis:
        (analysis,) = load_analyses(Settings(analyses=[options[name]]), folder).values()
        return analysis
    if kind == dict[str, Analysis]:
        selected = parse(Settings, read_yaml(options["settings"]), file=options["settings"])
        return load_analyses(selected, folder)
    if kind == Outputs:
        files: Outputs = {}
        for output, path in options[name]:
            files.setdefault(output, []).append(path)
        return files
    return options[name]


def _types(main: Callable[..., None]) -> dict[str, Any]:
    hints = typing.get_type_hints(main)
    return {name: hints[name] for name in inspect.signature(main).parameters}
