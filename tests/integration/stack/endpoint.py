"""An unmodified Globus Compute endpoint, whose workers run in Slurm or on the host itself."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from palletfit.executors.globus import endpoint as installer

from .processes import Process, Program, processes

PROGRAM = Path(sys.executable).with_name("globus-compute-endpoint")
#: The shortest that endpoints take.
HEARTBEAT = 5

#: What a client may give as `user_endpoint_config`, and what holds where it does not.
DEFAULTS: dict[str, Any] = {
    "provider": "slurm",
    "partition": "debug",
    # Blocks outlive tests that need none: a new one costs more than most tests.
    "walltime": "00:20:00",
    "workers": 2,
    "nodes": 1,
    "blocks": 1,
    "gres": None,
    "retries": 0,
    "idle": 90,
    "worker_init": "",
    # Means nothing, but another label is another configuration: it gets a user endpoint of its own.
    "label": "",
}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "provider": {"enum": ["slurm", "local"]},
        "partition": {"type": "string"},
        "walltime": {"type": "string"},
        "workers": {"type": "integer", "minimum": 1},
        "nodes": {"type": "integer", "minimum": 1},
        "blocks": {"type": "integer", "minimum": 1},
        "gres": {"type": ["string", "null"]},
        "retries": {"type": "integer", "minimum": 0},
        "idle": {"type": "integer", "minimum": 1},
        "worker_init": {"type": "string"},
        "label": {"type": "string"},
    },
}
TEMPLATE = """
heartbeat_period: {{ heartbeat }}
engine:
  type: GlobusComputeEngine
  address: 127.0.0.1
  max_workers_per_node: {{ workers }}
  max_retries_on_system_failure: {{ retries }}
  heartbeat_period: 1
  heartbeat_threshold: 5
  job_status_kwargs:
    max_idletime: {{ idle }}
    strategy_period: 1
  provider:
    init_blocks: 0
    min_blocks: 0
    max_blocks: {{ blocks }}
    nodes_per_block: {{ nodes }}
    worker_init: {{ worker_init }}
{%- if provider == '"slurm"' %}
    type: SlurmProvider
    partition: {{ partition }}
    walltime: {{ walltime }}
    gres: {{ gres }}
    exclusive: false
    cores_per_node: {{ workers }}
    launcher:
      type: S{% if nodes > 1 %}run{% else %}ingleNode{% endif %}Launcher
{%- else %}
    type: LocalProvider
{%- endif %}
"""


class Endpoint:
    """The core endpoint, and the user endpoints that it starts for each distinct configuration."""

    def __init__(self, folder: Path, endpoint_id: str, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.id = endpoint_id
        self._environment = dict(environment)
        self._home = folder / "main"
        self._program: Program | None = None

    @property
    def logs(self) -> list[Path]:
        return [self.folder / "endpoint.out", *sorted(self.folder.glob("*/endpoint.log"))]

    @property
    def running(self) -> bool:
        return self._program is not None and self._program.alive

    @property
    def sound(self) -> bool:
        """Whether the core endpoint runs, and no process of it was killed."""
        known = [file.read_text().strip() for file in self._pid_files()]
        return self.running and all(Path("/proc", pid).exists() for pid in known)

    def _pid_files(self) -> list[Path]:
        return list(self.folder.glob("*/daemon.pid"))

    @property
    def pid(self) -> int:
        """The core endpoint's process."""
        assert self._program is not None, "the endpoint was not started"
        return self._program.pid

    def start(
        self,
        worker_environment: Mapping[str, str],
        defaults: Mapping[str, Any],
        profile: Path | None = None,
    ) -> None:
        """Start the core endpoint; workers get only the environment that is given here.

        With the files of a profile's endpoint in place of the stack's own, if they are given.
        """
        self.stop(at_once=True)
        if profile is None:
            self._configure(worker_environment, {**DEFAULTS, **defaults})
        else:
            self._install(profile, worker_environment)
        # Those of processes that were killed; the next ones would refuse to start for some time.
        for file in self._pid_files():
            file.unlink()
        self._program = Program(
            [PROGRAM, "start", "main", "--endpoint-uuid", self.id],
            self.folder / "endpoint.out",
            self._environment,
            folder=self.folder,
            grace=25,
        )

    def stop(self, *, at_once: bool = False) -> None:
        """End the endpoint; unless at once, it ends its blocks too."""
        if self._program is not None:
            self._program.stop(at_once=at_once)
            self._program = None

    def user_endpoints(self) -> list[Process]:
        """The running user endpoints."""
        return [
            process
            for process in self._own()
            if process.command.startswith("Globus Compute Endpoint (")
        ]

    def workers(self) -> list[Process]:
        """The running workers, which execute one task at a time."""
        own = self._own()
        pools = {process.pid for process in own if "process_worker_pool" in process.command}
        # All of a pool are forked by one process, see hooks/sitecustomize.py.
        servers = [process for process in own if "multiprocessing.forkserver" in process.command]
        forked: dict[int, list[Process]] = {
            server.pid: [] for server in servers if server.parent in pools
        }
        for process in servers:
            if process.parent in forked:
                forked[process.parent].append(process)
        # The first one keeps the pool's tables.
        return [
            worker
            for workers in forked.values()
            for worker in sorted(workers, key=lambda process: (process.began, process.pid))[1:]
        ]

    def _own(self) -> list[Process]:
        home = str(self.folder)
        return [
            process
            for process in processes()
            if process.environment.get("GLOBUS_COMPUTE_USER_DIR") == home
        ]

    def _configure(
        self, worker_environment: Mapping[str, str], defaults: Mapping[str, Any]
    ) -> None:
        self._home.mkdir(mode=0o700, exist_ok=True)
        configuration = {"heartbeat_period": HEARTBEAT, "email": "nobody@localhost"}
        self._write("config.yaml", yaml.safe_dump(configuration))
        lines = [
            f"{{%- set {name} = {name} | default({_literal(value)}) %}}"
            for name, value in defaults.items()
        ]
        lines.append(f"{{%- set heartbeat = {HEARTBEAT} %}}")
        self._write("user_config_template.yaml.j2", "\n".join(lines) + TEMPLATE)
        self._write("user_config_schema.json", json.dumps(SCHEMA))
        self._write("user_environment.yaml", yaml.safe_dump(dict(worker_environment)))

    def _install(self, profile: Path, worker_environment: Mapping[str, str]) -> None:
        """What `make endpoint` does, and what only the stack needs."""
        self._home.mkdir(mode=0o700, exist_ok=True)
        with mock.patch.dict(os.environ, GLOBUS_COMPUTE_USER_DIR=str(self.folder)):
            installer.install(profile, self._home.name)
        configuration = yaml.safe_load((self._home / "config.yaml").read_text())
        configuration |= {"heartbeat_period": HEARTBEAT, "email": "nobody@localhost"}
        self._write("config.yaml", yaml.safe_dump(configuration))
        # The site's own variables, PATH among them, stay as they are.
        variables = yaml.safe_load((self._home / "user_environment.yaml").read_text())
        self._write("user_environment.yaml", yaml.safe_dump({**worker_environment, **variables}))

    def _write(self, name: str, text: str) -> None:
        (self._home / name).write_text(text)


def _literal(value: Any) -> str:
    """A value as Jinja writes what the endpoint makes of it: text stays in double quotes."""
    quoted = json.dumps(value)
    return json.dumps(quoted) if isinstance(value, str) else ("'null'" if value is None else quoted)
