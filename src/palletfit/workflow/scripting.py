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
from palletfit.errors import PalletfitError
from palletfit.runs.state import end_with_run

logger = logging.getLogger(__name__)


def run(main: Callable[..., None], namespace: Mapping[str, Any]) -> None:
    """Call a script's ``main``; errors that a user can act on end it with a message, not a trace.

    Parameters
    ----------
    main
        Takes keyword arguments only. Special types: `Settings` is the configuration, `Analysis`
        the analysis that the wildcard (or option) ``analysis`` names, `dict[str, Analysis]` all
        selected ones (on the command line only beside `Settings`); ``cores`` is the rule's
        number of threads. All other names are inputs, outputs or wildcards of the rule.
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
        logger.error("%s", error)
        sys.exit(1)
    except KeyboardInterrupt:
        logger.error("Interrupted. What is finished is kept; run the same command again to go on.")
        sys.exit(130)


def _set_up_logging(path: Path | None) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(path, mode="w", encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        handlers.append(file)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=handlers, force=True)
    for name in ("pyhf", "jax", "absl", "matplotlib", "fontTools"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _from_rule(main: Callable[..., None], rule: Any, folder: Path) -> dict[str, Any]:
    settings = parse(Settings, rule.config, file="config/config.yaml")
    arguments: dict[str, Any] = {}
    for name, kind in _types(main).items():
        if kind is Settings:
            arguments[name] = settings
        elif kind is Analysis:
            selected = load_analyses(settings, folder)
            arguments[name] = with_members(selected, folder)[rule.wildcards[name]]
        elif kind == dict[str, Analysis]:
            arguments[name] = load_analyses(settings, folder)
        elif name == "cores":
            arguments[name] = rule.threads
        else:
            default = inspect.signature(main).parameters[name].default
            value = _look_up(rule, name, default)
            arguments[name] = value if value is default else _convert(value, kind)
    return arguments


def _look_up(rule: Any, name: str, default: Any) -> Any:
    for source in (rule.input, rule.output, rule.wildcards):
        if name in source.keys():  # noqa: SIM118  Snakemake's lists have keys beside items
            return source[name]
    if default is not inspect.Parameter.empty:
        return default
    raise KeyError(f"rule {rule.rule} has no input, output or wildcard {name!r}")


def _convert(value: Any, kind: Any) -> Any:
    if typing.get_origin(kind) is list:
        inner = typing.get_args(kind)[0]
        return [inner(item) for item in ([value] if isinstance(value, str) else value)]
    return kind(value)


def _from_command_line(main: Callable[..., None], folder: Path) -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        description=inspect.getdoc(main), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    types = _types(main)
    for name, kind in types.items():
        if kind is Settings:
            parser.add_argument(
                "--config", type=Path, default=folder.parent / "config.yaml", help="settings"
            )
        elif kind == dict[str, Analysis]:
            continue  # the settings name them
        elif typing.get_origin(kind) is list:
            default = inspect.signature(main).parameters[name].default
            required = default is inspect.Parameter.empty
            parser.add_argument(
                f"--{name}",
                nargs="+",
                type=typing.get_args(kind)[0],
                required=required,
                default=None if required else [*default],
            )
        elif kind is Analysis:
            parser.add_argument(f"--{name}", required=True, help="name, or path of a YAML file")
        else:
            default = inspect.signature(main).parameters[name].default
            required = default is inspect.Parameter.empty
            parser.add_argument(
                f"--{name}", type=kind, required=required, default=None if required else default
            )
    given = vars(parser.parse_args())
    arguments: dict[str, Any] = {}
    for name, kind in types.items():
        if kind is Settings:
            arguments[name] = parse(Settings, read_yaml(given["config"]), file=given["config"])
        elif kind is Analysis:
            (arguments[name],) = load_analyses(Settings(analyses=[given[name]]), folder).values()
        elif kind == dict[str, Analysis]:
            selected = parse(Settings, read_yaml(given["config"]), file=given["config"])
            arguments[name] = load_analyses(selected, folder)
        else:
            arguments[name] = given[name]
    return arguments


def _types(main: Callable[..., None]) -> dict[str, Any]:
    hints = typing.get_type_hints(main)
    return {name: hints[name] for name in inspect.signature(main).parameters}
