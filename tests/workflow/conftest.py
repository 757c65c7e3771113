"""Runs the workflow as a user does: the snakemake program, in a folder of its own."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from .pallets import TinyPallet
from .preloaded import Snakemake

#: The process that forks for runs, if it was needed.
_SNAKEMAKE = Snakemake()
#: So many words of a command line start the program.
_PROGRAM = 3
#: What Python executes first in all processes of a plain run whose fits are held. Modules are
#: changed when they are imported: importing them costs more than most of these processes.
_HELD = """
import importlib.abc
import importlib.util
import sys
import time
from glob import glob

def allowed():
    try:
        with open({file!r}) as file:
            return int(file.read() or 0)
    except FileNotFoundError:
        return float("inf")

def hold(module):
    fit = module._fit
    def held(*arguments):
        while len(glob({results!r})) >= allowed():
            time.sleep(0.05)
        return fit(*arguments)
    module._fit = held

def set_share(module):
    module.SHARE = 0.9

class Hook(importlib.abc.MetaPathFinder):
    def __init__(self, name, change):
        self.name, self.change = name, change

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        def execute_and_change(module):
            execute(module)
            self.change(module)
        spec.loader.exec_module = execute_and_change
        return spec

sys.meta_path[:0] = [
    Hook("palletfit.runs.task", hold), Hook("palletfit.pages.live.watching", set_share)
]
"""


@dataclass
class Folder:
    """A working directory, with what is needed to run the workflow there."""

    path: Path
    project: Path
    config: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    #: Another profile than `local`, whose own configuration counts where `config` says nothing.
    profile: str | None = None

    def command(self, *arguments: str) -> list[str]:
        """The snakemake command line for this folder's configuration."""
        start = [sys.executable, "-m", "snakemake", "--snakefile", str(self.project / "Snakefile")]
        place = ["--directory", str(self.path), "--profile"]
        if self.profile is not None:
            pairs = [f"{key}={json.dumps(value)}" for key, value in self.config.items()]
            return [*start, "--config", *pairs, *place, self.profile, *arguments]
        file = self.path / "config.yaml"
        file.write_text(yaml.safe_dump(self.config))
        place = ["--configfile", str(file), *place, str(self.project / "profiles" / "local")]
        return [*start, *place, *arguments]

    def run(
        self,
        *arguments: str,
        succeeds: bool = True,
        timeout: float = 1200,
        plain: bool = False,
    ) -> Run:
        """Run the workflow to its end, if plain in the very processes that a user's run has."""
        began = time.time()
        file = self.path.with_name(f"{self.path.name}.output")
        command, environment = self.command(*arguments), self.environment()
        if plain:
            with file.open("w") as target:
                status = subprocess.run(
                    command,
                    cwd=self.project,
                    env=environment,
                    stdout=target,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    timeout=timeout,
                    check=False,
                ).returncode
        else:
            status = _SNAKEMAKE.run(
                command[_PROGRAM:],
                folder=self.project,
                environment=environment,
                output=file,
                timeout=timeout,
            )
        output = file.read_text()
        assert (status == 0) is succeeds, output
        return Run(output, sorted(self.fitted_since(began)))

    def begin(self, *arguments: str, output: Path, timeout: float = 1200) -> Future[int]:
        """Begin a run that goes on meanwhile, and let its exit status come later."""
        status: Future[int] = Future()
        command, environment = self.command(*arguments)[_PROGRAM:], self.environment()

        def run() -> None:
            try:
                code = _SNAKEMAKE.run(
                    command,
                    folder=self.project,
                    environment=environment,
                    output=output,
                    timeout=timeout,
                )
            except BaseException as error:  # noqa: BLE001  whoever waits has to see it
                status.set_exception(error)
            else:
                status.set_result(code)

        Thread(target=run, daemon=True).start()
        return status

    @contextmanager
    def running_held(
        self,
        *arguments: str,
        count: int,
        results: str = "results/*/*/fits/*.json",
    ) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        """Begin a run in the very processes that a user's has, which fits a few patches and waits.

        Its live page may cost as much as it likes: on a machine with much else to do, the page
        would be written more rarely than tests wait.

        Parameters
        ----------
        *arguments
            Of the command line.
        count
            No further fit begins while there are so many results; one that is not written yet
            does not count.
        results
            Pattern of files of results.

        Yields
        ------
        tuple of Popen and Path
            The run, whose output is in the file ``run.log``, and the file that holds it: with
            another number in it there may be so many results, and without it all.
        """
        held = self.path / "held"
        held.write_text(str(count))
        hooks = self.path / "hooks"
        hooks.mkdir()
        code = _HELD.format(file=str(held), results=str(self.path / results))
        (hooks / "sitecustomize.py").write_text(code)
        path = os.pathsep.join([str(hooks), str(self.project / "src")])
        with (self.path / "run.log").open("w") as log:
            run = subprocess.Popen(
                self.command(*arguments),
                cwd=self.project,
                env={**self.environment(), "PYTHONPATH": path},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        try:
            yield run, held
        finally:
            held.unlink(missing_ok=True)
            run.kill()
            run.wait()

    def environment(self) -> dict[str, str]:
        """A plain environment; nothing of the test process's own settings."""
        hidden = re.compile(r"PYTEST|PYTHONDONTWRITEBYTECODE|OMP_|OPENBLAS_|MKL_")
        kept = {name: value for name, value in os.environ.items() if not hidden.match(name)}
        return {**kept, **self.variables}

    def records(self) -> dict[Path, dict[str, Any]]:
        """All readable records of all analyses and regions."""
        found = {}
        for path in self.path.glob("results/*/*/fits/*.json"):
            try:
                found[path] = json.loads(path.read_bytes())
            except ValueError:
                continue
        return found

    def fitted_since(self, moment: float) -> list[str]:
        """Names of the patches that a worker fitted after a moment."""
        return [
            record["patch"]
            for record in self.records().values()
            if record.get("worker", {}).get("began", 0.0) >= moment
        ]


def preload(*modules: str) -> None:
    """Import modules before runs are forked, for those that would each import them."""
    _SNAKEMAKE.more = modules


def end_runs() -> None:
    """End the run that goes on in the forking process, if there is one."""
    _SNAKEMAKE.close()


@dataclass(frozen=True)
class Run:
    """One finished run: its output, and the patches that were fitted in it."""

    output: str
    fitted: list[str]

    @property
    def idle(self) -> bool:
        return "Nothing to be done" in self.output


@pytest.fixture
def folder(tmp_path: Path, project: Path) -> Folder:
    """An empty working directory, for few fits: processes take longer to start."""
    return Folder(tmp_path, project, {"download": {"offline": True}, "executor": {"workers": 1}})


@pytest.fixture
def tiny(folder: Folder) -> TinyPallet:
    """An analysis of six quick patches, selected in the folder's configuration."""
    pallet = TinyPallet(folder.path)
    pallet.write()
    folder.config["analyses"] = [str(pallet.analysis_path)]
    return pallet


class Snapshot:
    """A folder after a run of the tiny analysis, put back for every test that asks for it.

    Always at the same path, because records of runs hold absolute ones.

    Attributes
    ----------
    run
        That run.
    """

    def __init__(self, folder: Folder, target: Callable[[TinyPallet], str]) -> None:
        self._folder = folder
        self._pallet = TinyPallet(folder.path)
        self._pallet.write()
        folder.config["analyses"] = [str(self._pallet.analysis_path)]
        self.run = folder.run(target(self._pallet))
        self._copy = folder.path.with_name(f"{folder.path.name}-copy")
        shutil.copytree(folder.path, self._copy)

    def restore(self) -> tuple[Folder, TinyPallet]:
        """Undo what tests did to the folder, and return it and the analysis in it."""
        shutil.rmtree(self._folder.path)
        shutil.copytree(self._copy, self._folder.path)
        return copy.deepcopy((self._folder, self._pallet))


@pytest.fixture(scope="session")
def prepared_once(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Snapshot:
    """A snapshot of the tiny analysis when everything but the fits is done."""
    folder = Folder(tmp_path_factory.mktemp("prepared"), project, {"download": {"offline": True}})
    return Snapshot(folder, lambda tiny: f"results/{tiny.name}/SR/workspace.json")


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Snapshot:
    """A snapshot of the tiny analysis at its end."""
    folder = Folder(tmp_path_factory.mktemp("finished"), project, {"download": {"offline": True}})
    return Snapshot(folder, lambda _: "all")


@pytest.fixture
def prepared(prepared_once: Snapshot) -> tuple[Folder, TinyPallet]:
    """A folder in which the tiny analysis is prepared but not fitted."""
    return prepared_once.restore()


@pytest.fixture
def finished(finished_once: Snapshot) -> tuple[Folder, TinyPallet]:
    """A folder in which the tiny analysis was run to its end."""
    return finished_once.restore()
