"""The group of commands: help, what is imported, interruption, completion."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement

from palletfit import cli
from palletfit.cli.ending import for_shell
from palletfit.errors import FitError, PalletError, StoreError

from .. import models

NAMES = [name for name in cli.main.list_commands(click.Context(cli.main)) if name != "inspect"]


def test_the_help_lists_all_commands(palletfit) -> None:
    result = palletfit("--help")
    assert result.exit_code == 0
    for name in NAMES:
        assert f"  {name} " in result.stdout
        assert cli.COMMANDS[name] in result.stdout
    assert palletfit().exit_code == 2  # without a word


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_a_help_with_an_example(palletfit, name: str) -> None:
    command = cli.main.get_command(click.Context(cli.main), name)
    assert command is not None
    assert command.short_help == cli.COMMANDS[name]
    result = palletfit(name, "--help", terminal_width=80)
    assert result.exit_code == 0
    assert f"palletfit {name} " in result.stdout.partition("Examples:")[2]
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_version(palletfit) -> None:
    from palletfit.core.version import __version__

    assert palletfit("--version").stdout == f"palletfit, version {__version__}\n"


@pytest.mark.parametrize("words", [["--help"], ["hypotest", "--help"], ["run", "--help"]])
def test_a_help_imports_no_physics(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "palletfit.cli", *words],
        capture_output=True,
        text=True,
        check=True,
        env=models.environment(),
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "click" in imported
    slow = {"numpy", "scipy", "pyhf", "pydantic", "matplotlib", "tqdm", "jsonpatch"}
    assert not slow & imported
    if words == ["--help"]:
        assert not {name for name in imported if name == "palletfit.cli.hypotest"}


def test_a_module_that_is_no_command_is_not_called() -> None:
    assert cli.main.get_command(click.Context(cli.main), "output") is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (BrokenPipeError(), 141),
        (OSError(28, "No space left on device"), 2),
        (StoreError("Cannot write; finished patches are kept.", remedy="Run again."), 2),
        (FitError("No.", remedy="Look."), 1),
        (PalletError("No.", remedy="Set `fit.mu`."), 2),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_the_end_of_a_command(palletfit, monkeypatch, error, code: int) -> None:
    def fail() -> int:
        raise error

    command = click.Command("hypotest", callback=fail)
    monkeypatch.setattr("palletfit.cli.hypotest.command", command)
    result = palletfit("hypotest")
    assert (result.exit_code, result.stdout) == (code, "")
    expected = {
        FitError: "error: No.\n  remedy: Look.\n",
        PalletError: "error: No.\n  remedy: Set `--mu`.\n",
        OSError: "error: The operating system says: No space left on device.\n"
        "  remedy: Check paths, permissions and the space on the disk.\n",
        StoreError: "error: Cannot write.\n"
        "  remedy: Choose another file, or make its folder writable, with space on its disk.\n",
    }
    assert result.stderr.strip() == expected.get(type(error), "").strip()


def test_remedies_name_what_a_command_has() -> None:
    texts = {
        "choose another `poi`": "choose another `--poi`",
        "correct the measurement's `poi`": "correct the measurement's `poi`",
        "they belong, set `digest: ignore` for the region in the analysis file.": "they belong, "
        "use `--no-check`.",
        "set limits.mu_max.": "set `--mu-max`.",
        "add 'a.org' to download.allowed_hosts.": "use `--allow-host` with 'a.org'.",
        "Set `fit.engine: reference`": "Set `--engine reference`",
    }
    assert {text: for_shell(text) for text in texts} == texts
    assert "no option" in for_shell("If you trust it, raise download.max_members.")


def test_a_closed_pipe_ends_a_command_without_a_word() -> None:
    """Also the last words of an output, which wait in a buffer."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        for words in (["--help"], ["catalogue"]):
            done = subprocess.run(
                [sys.executable, "-m", "palletfit.cli", *words],
                stdout=writer,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                env=models.environment(),
            )
            assert (done.returncode, done.stderr) == (141, "")
    finally:
        os.close(writer)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_no_traceback() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "palletfit.cli", "catalogue"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=models.environment(),
        )
    assert (done.returncode, "No space left" in done.stderr) == (2, True)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_an_error_of_the_program_is_not_hidden(palletfit, monkeypatch) -> None:
    def fail() -> int:
        raise RuntimeError("a fault")

    command = click.Command("hypotest", callback=fail)
    monkeypatch.setattr("palletfit.cli.hypotest.command", command)
    with pytest.raises(RuntimeError, match="a fault"):
        palletfit("hypotest")


def test_a_shell_completes_names() -> None:
    environment = models.environment(
        _PALLETFIT_COMPLETE="bash_complete", COMP_WORDS="palletfit hypotest --pat", COMP_CWORD="2"
    )
    done = subprocess.run(
        [sys.executable, "-m", "palletfit.cli"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.stdout.split() == ["plain,--patchset", "plain,--patch"]
    assert done.returncode == 0


def test_commands_need_no_more_than_the_base_dependencies(files: Path, project: Path) -> None:
    """As after `pip install .`: without Snakemake, pandas, matplotlib and so on."""
    declared = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = declared["optional-dependencies"]
    names = {Requirement(line).name for line in (*extras["workflow"], *extras["clusters"])}
    absent = sorted({name.replace("-", "_") for name in names} | {"shapely", "dask", "jax"})
    script = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name in {absent!r}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from click.testing import CliRunner\n"
        "from palletfit.cli import main\n"
        "from palletfit.engine import search\n"
        "search._WORK = 0\n"
        "words = ['hypotest', 'limit', 'fit', 'gof', 'pulls', 'scan --points 3', 'toys --toys 9']\n"
        "for line in [*words, 'pulls --impacts', 'hypotest --engine reference']:\n"
        "    result = CliRunner().invoke(main, [*line.split(), 'counting.json'])\n"
        "    assert result.exit_code == 0, (line, result.output, result.exception)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=models.environment(),
        cwd=files,
    )
    assert done.returncode == 0, done.stderr
