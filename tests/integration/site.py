"""A user with a working folder on one side, an endpoint with disturbed workers on the other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..workflow.conftest import Folder, Run, end_runs
from ..workflow.pallets import TinyPallet
from .stack import Stack
from .stack.processes import processes, until


class Site:
    """Runs the workflow with a remote executor.

    Attributes
    ----------
    control
        Folder that workers look into, see hooks/sitecustomize.py.
    """

    def __init__(self, stack: Stack, folder: Folder, pallet: TinyPallet, control: Path) -> None:
        self.stack, self.folder, self.pallet, self.control = stack, folder, pallet, control
        folder.variables = {
            name: value for name, value in stack.environment.items() if name not in ("PATH", "HOME")
        }
        folder.config["executor"] = {
            "kind": "globus-compute",
            "endpoint": stack.endpoint_id,
            "workers": 2,
            "patches_per_task": 1,
            "deadline": 600,
            "patience": 60,
        }
        self.forget()

    def set(self, **settings: Any) -> None:
        """Change settings of the executor; in `endpoint_config`, a label asks for own blocks."""
        self.folder.config["executor"].update(settings)

    def start_endpoint(self) -> None:
        """Start the endpoint, with workers that look into the control folder."""
        self.stack.start_endpoint({"PALLETFIT_TEST_CONTROL": str(self.control)})

    def run(self, *arguments: str, succeeds: bool = True, timeout: float = 1200) -> Run:
        """Fit, without aggregating and plotting."""
        target = arguments or (self.pallet.hypotest(),)
        return self.folder.run(*target, succeeds=succeeds, timeout=timeout)

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Future[int]]:
        """A run that goes on meanwhile to its end; its output is in the file ``output``."""
        target = arguments or (self.pallet.hypotest(),)
        status = self.folder.begin(*target, output=self.folder.path / "output")
        try:
            yield status
        finally:
            if not status.done():
                end_runs()
                status.exception(timeout=300)

    def finish(self, status: Future[int], *, succeeds: bool = True) -> str:
        """Wait for a run's end, and return its output."""
        code = status.result(timeout=600)
        output = (self.folder.path / "output").read_text()
        assert (code == 0) is succeeds, output + self.stack.logs()
        return output

    @contextmanager
    def running_alone(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A run for the test to end, in the very processes that a user's has."""
        with (
            (self.folder.path / "output").open("w") as output,
            subprocess.Popen(
                # Tests that a shell runs in the background ignore interrupts, and hand that down.
                [
                    *("env", "--default-signal=INT"),
                    *self.folder.command(*(arguments or (self.pallet.hypotest(),))),
                ],
                cwd=self.folder.project,
                env=self.folder.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
            ) as process,
        ):
            try:
                yield process
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)

    def kill(self, process: subprocess.Popen[str]) -> None:
        """What a user's `kill -9`, or a closed laptop, does to the run and its jobs."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=300)

    # -- the ledger, and what the service keeps

    @property
    def ledger(self) -> Path:
        """The list of tasks that the service has."""
        return self.folder.path / "results" / self.pallet.name / "SR" / "tasks.jsonl"

    def sent(self) -> dict[tuple[str, ...], str]:
        """The service's identifiers of fits, by the names of their patches."""
        events = [json.loads(line) for line in self.ledger.read_text().splitlines()]
        patches, identifiers = {}, {}
        for event in events:
            patches |= event.get("tasks", {})
            identifiers |= event.get("ids", {})
        return {tuple(patches[digest]): task for digest, task in identifiers.items()}

    def submit(self) -> dict[tuple[str, ...], str]:
        """Submit all fits, and wait until the service has the results."""
        self.run("submit")
        sent, tasks = self.sent(), self.stack.service.tasks
        until(lambda: not any(tasks[task].pending for task in sent.values()), "pending")
        return sent

    # -- workers

    def hold(self) -> None:
        """Let tasks wait before they fit."""
        (self.control / "hold").touch()

    def release(self) -> None:
        """Let them go on."""
        (self.control / "hold").unlink(missing_ok=True)

    def held(self) -> list[int]:
        """Processes that have a task and wait."""
        pids = {int(file.name.removeprefix("held-")) for file in self.control.glob("held-*")}
        return [process.pid for process in processes() if process.pid in pids]

    def kill_workers(self) -> None:
        """End all workers of the endpoint by force, and wait until they are gone."""
        killed = set(self.stack.worker_pids())
        assert killed
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not killed & set(self.stack.worker_pids()), "workers stay")

    def forget(self) -> None:
        """Remove what earlier tests asked of workers."""
        for file in self.control.iterdir():
            file.unlink()

    @property
    def fitted(self) -> Counter[str]:
        """How often each patch was fitted."""
        file = self.control / "fitted"
        return Counter(file.read_text().split() if file.exists() else [])

    @property
    def gpus(self) -> set[str]:
        """GPUs that workers with tasks were given."""
        file = self.control / "gpus"
        return set(file.read_text().split() if file.exists() else [])

    @property
    def tasks(self) -> int:
        """How many tasks the service has taken, probes and repetitions included."""
        return len(self.stack.service.tasks)

    def until_sent(self, before: int, count: int | None = None) -> None:
        """Wait until the service has taken tasks since there were `before`."""
        # One more: the probe.
        wanted = before + (len(self.pallet.names) if count is None else count) + 1
        until(lambda: self.tasks >= wanted, "tasks were not sent", self.stack.endpoint.logs)

    def until_running(self, count: int = 2) -> None:
        """Wait until so many workers have tasks, which are held."""
        logs = self.stack.endpoint.logs
        until(lambda: len(self.held()) >= count, "no workers have tasks", logs)

    # -- what must hold in the end

    def assert_all_fitted_once(self) -> None:
        """Every patch has a good record, and none was fitted twice."""
        records = self.folder.records().values()
        assert {record["patch"]: record["status"] for record in records} == dict.fromkeys(
            self.pallet.names, "ok"
        )
        assert self.fitted == Counter(self.pallet.names)
