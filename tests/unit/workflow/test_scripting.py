"""Scripts as command-line programs and as Snakemake scripts."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from palletfit.config import Analysis, Settings
from palletfit.errors import FitError
from palletfit.products.limits import Limits
from palletfit.runs.product import Product
from palletfit.workflow import scripting
from palletfit.workflow.scripting import Outputs

from .. import models
from ..pallet.test_prepare import make_archive

ROOT = Path(__file__).parents[3]
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))


def script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, arguments)],
        cwd=ROOT,
        env=models.environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def namespace_of(path: Path) -> dict[str, Any]:
    """Import a script, which is in no package."""
    code = compile(path.read_text(encoding="utf-8"), str(path), "exec")
    namespace = {"__name__": "imported", "__file__": str(path)}
    exec(code, namespace)  # noqa: S102  a file of this repository
    return namespace


def script_here(monkeypatch, name: str, *arguments: object) -> None:
    """Run a script in this process, which has imported what it imports."""
    from_shell(monkeypatch, namespace_of(ROOT / "scripts" / f"{name}.py")["main"], *arguments)


@pytest.fixture(autouse=True)
def _logging():
    """Logging as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def search(tmp_path) -> Path:
    """The file of an analysis with a tiny local pallet."""
    background = models.background("normsys")
    make_archive(
        tmp_path / "pallet.tgz",
        {"bkg.json": background, "patches.json": models.patchset(background, models.grid())},
    )
    path = tmp_path / "search.yaml"
    plane = {"x": "m1", "y": "m2", "x_title": "x", "y_title": "y"}
    path.write_text(
        yaml.safe_dump(
            {
                "title": "a search",
                "pallet": {"path": "pallet.tgz"},
                "regions": {"SR": {"workspace": "bkg.json", "patchset": "patches.json"}},
                "labels": ["m1", "m2"],
                "planes": {"masses": plane},
            }
        )
    )
    return path


def test_help_names_what_the_script_does_and_takes(monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        script_here(monkeypatch, "aggregate", "--help")
    assert end.value.code == 0
    written = capsys.readouterr().out
    assert "Write the table's files" in written
    options = ("analysis", "product", "manifests", "results", "outputs NAME=PATH")
    assert all(f"--{name}" in written for name in options)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_imports_and_runs_only_as_a_program(path):
    namespace = namespace_of(path)
    types = scripting._types(namespace["main"])
    assert Analysis in types.values() or dict[str, Analysis] in types.values()
    # From a shell, settings are the option --config: no other may have its name.
    assert "config" not in types


@pytest.mark.slow
def test_scripts_lead_from_an_archive_to_results(monkeypatch, search, tmp_path):
    """The one that starts workers is a program, and the others run in this process."""
    out = tmp_path / "results" / "SR"
    script_here(
        monkeypatch,
        "prepare_workspace",
        *("--analysis", search, "--region", "SR", "--archive", tmp_path / "pallet.tgz"),
        *("--workspace", out / "workspace.json", "--patchset", out / "patchset.json"),
        *("--summary", out / "summary.html"),
    )
    assert json.loads((out / "summary.json").read_text())["patches"] == 3

    fitted = script(
        "make_product",
        *("--analysis", search, "--region", "SR", "--cores", 1),
        *("--workspace", out / "workspace.json", "--patchset", out / "patchset.json"),
        *("--manifest", out / "hypotest.json"),
    )
    assert fitted.returncode == 0, fitted.stderr
    assert "search/SR: 3 of 3 patches, 0 failed" in fitted.stderr

    script_here(
        monkeypatch,
        "aggregate",
        *("--analysis", search, "--product", "hypotest", "--manifests", out / "hypotest.json"),
        *("--outputs", f"json={tmp_path / 'results.json'}", f"csv={tmp_path / 'results.csv'}"),
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results) == ["signal_100_50", "signal_200_50", "signal_300_50"]
    assert all(point["status"] == "ok" for point in results.values())
    observed = [point["CLs_obs"] for point in results.values()]
    assert observed == sorted(observed)  # ever less signal
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 4


def test_a_script_about_all_selected_analyses(monkeypatch, search, tmp_path):
    settings = {"analyses": [str(search)], "benchmark": {"executors": {"here": {}}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    machine = dict.fromkeys(("processor", "cores", "python"), "any") | {"load": 1.0}
    machine |= dict.fromkeys(("numpy", "palletfit", "pyhf", "scipy"), "1")
    counted = {"patches": 3, "status": {"ok": 3}, "workers": 2}
    files = []
    for number, seconds in enumerate((1.0, 2.0), 1):
        files.append(tmp_path / "search" / "here" / f"{number}.json")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        files[-1].write_text(json.dumps({"seconds": seconds, **counted, "machine": machine}))
    script_here(
        monkeypatch,
        "benchmark_table",
        *("--config", tmp_path / "config.yaml", "--times", *files),
        *("--table", tmp_path / "t.csv", "--markdown", tmp_path / "t.md"),
        *("--png", tmp_path / "t.png", "--pdf", tmp_path / "t.pdf"),
    )
    assert (
        "| search | 3 | here | 2 | 1 | 1 | 2 | 1.50 \u00b1 0.71 |"
        in (tmp_path / "t.md").read_text()
    )


def test_an_error_is_a_message_without_a_trace(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        script_here(
            monkeypatch,
            "aggregate",
            *("--analysis", "no-such", "--product", "limits", "--manifests", "a"),
            *("--outputs", "json=b", "csv=c", "--config", ROOT / "config" / "config.yaml"),
        )
    assert end.value.code == 1
    message = capsys.readouterr().err
    assert "There is no analysis 'no-such'." in message
    assert "remedy: " in message
    assert "Traceback" not in message
    assert list(tmp_path.iterdir()) == []


DAMAGED = {
    "SR/hypotest.json": "aggregate --product hypotest --manifests SR/hypotest.json",
    "results.json": "aggregate --product toys --manifests SR/toys.json --results results.json",
    "curves.json": "plot --product limits --kind plane --table t.csv --curves curves.json",
    "limits.json": "choose_patches --product mu_scan --table limits.json --chosen c.json",
    "SR/patchset.json": "make_product --region SR --cores 1 --workspace SR/workspace.json "
    "--patchset SR/patchset.json --manifest SR/hypotest.json",
}


@pytest.mark.parametrize(("damaged", "command"), DAMAGED.items(), ids=list(DAMAGED))
def test_a_damaged_file_of_a_run_says_how_to_mend_it(
    monkeypatch, capsys, search, tmp_path, damaged, command
):
    folder = tmp_path / "results"
    for file in (*DAMAGED, "SR/toys.json", "SR/workspace.json"):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"patches": {}}')
    (folder / "t.csv").write_text("patch\n")
    name, *arguments = command.split()
    path = folder / damaged
    path.write_bytes(path.read_bytes()[:1])  # cut short, as by a full disk
    outputs = ["--outputs", "json=a", "csv=b"] if name in ("aggregate", "plot") else []
    settings = ["--config", ROOT / "config" / "config.yaml"]
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as end:
        script_here(monkeypatch, name, "--analysis", search, *arguments, *outputs, *settings)
    assert end.value.code == 1
    message = capsys.readouterr().err
    assert "A file of this run is damaged" in message
    assert damaged in message
    assert "remedy: Remove it and run the same command again" in message
    assert "Traceback" not in message


def from_shell(monkeypatch, main, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["script.py", *map(str, arguments)])
    scripting.run(main, {"__file__": str(ROOT / "scripts" / "script.py")})


def test_arguments_come_from_the_shell(monkeypatch, search, tmp_path):
    given: list[object] = []

    def main(*, analysis: Analysis, settings: Settings, files: list[Path], cores: int) -> None:
        given.append((analysis.name, settings.fit.mu, files, cores))

    config = tmp_path / "config.yaml"
    config.write_text("fit: {mu: 3}")
    arguments = ("--analysis", search, "--files", "a", "b", "--cores", 2)
    from_shell(monkeypatch, main, *arguments)
    from_shell(monkeypatch, main, *arguments, "--config", config)
    assert given == [
        ("search", 1.0, [Path("a"), Path("b")], 2),
        ("search", 3.0, [Path("a"), Path("b")], 2),
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        ([], 2, "the following arguments are required: --analysis"),
        (["--analysis", "demo", "--cores", "all"], 2, "invalid int value: 'all'"),
        (["--analysis", "no.yaml", "--cores", "1"], 1, "no analysis file 'no.yaml'"),
        (["--analysis", "demo", "--cores", "1", "--config", "no.yaml"], 1, "Cannot read the file"),
    ],
)
def test_wrong_options_are_explained(monkeypatch, capsys, arguments, code, problem):
    def main(*, analysis: Analysis, cores: int, settings: Settings) -> None: ...

    with pytest.raises(SystemExit) as end:
        from_shell(monkeypatch, main, *arguments)
    assert end.value.code == code
    assert problem in capsys.readouterr().err


# --- Snakemake ----------------------------------------------------------------------------------


class Named(list):
    """Snakemake's lists: items, some of which have names."""

    def __init__(self, **names):
        super().__init__(names.values())
        self._names = names

    def keys(self):
        return self._names.keys()

    def __getitem__(self, key):
        return self._names[key] if isinstance(key, str) else super().__getitem__(key)


@pytest.fixture
def rule(search, tmp_path):
    """What Snakemake gives to a script."""
    return SimpleNamespace(
        rule="hypotest",
        config={"analyses": str(search), "fit": {"mu": 2.0}},
        input=Named(workspace="in/workspace.json", manifests=["a.json", "b.json"], one="a.json"),
        output=Named(manifest="out/hypotest.json"),
        wildcards=Named(analysis="search", region="SR"),
        params=Named(product="limits", kind="plane"),
        log=[str(tmp_path / "logs" / "hypotest.log")],
        threads=3,
        scriptdir=str(ROOT / "scripts"),
    )


def call(main, rule):
    scripting.run(main, {"snakemake": rule, "__file__": str(ROOT / "scripts" / "x.py")})


def test_arguments_come_from_the_rule(rule):
    given: list[object] = []

    def main(
        *,
        analysis: Analysis,
        region: str,
        settings: Settings,
        workspace: Path,
        manifests: list[Path],
        one: list[Path],
        manifest: Path,
        product: type[Product],
        kind: str,
        outputs: Outputs,
        cores: int,
    ) -> None:
        given.append((analysis.name, region, settings.fit.mu, cores))
        given.append((workspace, manifests, one, manifest))
        given.append((product, kind, outputs))

    call(main, rule)
    assert given == [
        ("search", "SR", 2.0, 3),
        (
            Path("in/workspace.json"),
            [Path("a.json"), Path("b.json")],
            [Path("a.json")],
            Path("out/hypotest.json"),
        ),
        (Limits, "plane", {"manifest": [Path("out/hypotest.json")]}),
    ]


def test_an_argument_that_the_rule_lacks_is_named(rule):
    def main(*, archive: Path) -> None: ...

    with pytest.raises(KeyError, match="no input, output, wildcard or parameter 'archive'"):
        call(main, rule)


def test_errors_go_to_the_log_and_to_the_screen(rule, tmp_path, capsys):
    def main(*, region: str) -> None:
        logging.getLogger("palletfit").info("at work")
        logging.getLogger("pyhf").info("chatter")
        raise FitError(f"{region} broke", remedy="mend it", patch="p")

    with pytest.raises(SystemExit) as end:
        call(main, rule)
    assert end.value.code == 1
    log = (tmp_path / "logs" / "hypotest.log").read_text()
    assert " INFO at work" in log
    assert " ERROR SR broke" in log
    assert "mend it" in log
    assert "chatter" not in log
    assert "SR broke\n  patch:  p\n  remedy: mend it" in capsys.readouterr().err


def test_a_surprise_keeps_its_trace(rule):
    def main(*, region: str) -> None:
        raise ZeroDivisionError(region)

    with pytest.raises(ZeroDivisionError):
        call(main, rule)


def test_an_interrupt_ends_with_the_shells_code(rule, capsys):
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        call(main, rule)
    assert end.value.code == 130
    assert "Interrupted" in capsys.readouterr().err


def test_a_wrong_configuration_is_a_message(rule, capsys):
    rule.config["fti"] = {}

    def main(*, settings: Settings) -> None: ...

    with pytest.raises(SystemExit):
        call(main, rule)
    assert "fti: unknown key; did you mean 'fit'?" in capsys.readouterr().err
