"""The real stack for tests of remote fits: Slurm, RabbitMQ, and a Globus Compute endpoint.

Everything is private to one folder, listens on the loopback interface only, and ends with the
process that started it, however that ends. Only the hosted web service is a stand-in.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import palletfit

from .processes import PATH, StackError, living, tails, until

HOOKS = Path(__file__).parents[1] / "hooks"
#: PYTHONPATH with hooks: what has it imports the package that the tests do.
WITH_HOOKS = os.pathsep.join([str(HOOKS), str(Path(palletfit.__file__).parents[1])])
#: Environment of endpoints, jobs and workers, see hooks/sitecustomize.py.
HOOKED = {"PYTHONPATH": WITH_HOOKS, "PALLETFIT_TEST_LEAN": "1"}

PROGRAMS = ("sbatch", "slurmctld", "slurmd", "munged", "rabbitmq-server", "epmd")
PACKAGES = ("globus_compute_sdk", "globus_compute_endpoint", "parsl", "pika")


def missing() -> str | None:
    """Why the stack cannot run here, if it cannot."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "the stack of real services runs on Linux as root only"
    programs = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    packages = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if not Path(sys.executable).with_name("globus-compute-endpoint").is_file():
        programs.append("globus-compute-endpoint (beside this Python)")
    if programs or packages:
        return f"not installed: {', '.join([*programs, *packages])}"
    return None


class Stack:
    """All parts, started by start() and ended by stop()."""

    def __init__(self, folder: Path) -> None:
        from .broker import Broker
        from .slurm import Slurm

        self.folder = folder = folder.resolve()
        if len(str(folder)) > 60:
            raise StackError(f"{folder} is too long for the names of sockets below it")
        for part in ("slurm", "broker", "endpoint", "client", "home", "tmp"):
            (folder / part).mkdir()
        #: The scheduler, the message broker, and the stand-in for the hosted service.
        self.slurm = Slurm(folder / "slurm")
        self.broker = Broker(folder / "broker")
        self._started = ExitStack()

    def start(self) -> None:
        """Start all but the endpoint."""
        from .endpoint import Endpoint
        from .service import Service

        self._started.callback(self.broker.stop)
        self.broker.start()
        self._started.callback(self.slurm.stop)
        self.slurm.start()
        self.broker.wait()
        self.service = Service(self.broker.url)
        self._started.callback(self.service.stop)
        self.service.start()
        #: What clients give to submit to the endpoint, which need not run for that.
        self.endpoint_id = self.service.add_endpoint("main")
        folder = self.folder / "endpoint"
        environment = {
            **self.environment,
            **HOOKED,
            "GLOBUS_COMPUTE_USER_DIR": str(folder),
            "SPT_NOENV": "1",
        }
        self.endpoint = Endpoint(folder, self.endpoint_id, environment)
        self._started.callback(self.endpoint.stop, at_once=True)

    def stop(self) -> None:
        """End everything, at once; what tests left running as well, but that is an error."""
        self._started.close()
        left = living(self.folder)
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        until(lambda: not living(self.folder), f"still running: {living(self.folder)}")
        if left:
            raise StackError(f"ended only now, by force: {left}")

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a client: a program that submits tasks.

        The SDK knows one address for a service that is not the hosted one: port 5000 of localhost.
        As a proxy the stand-in is asked in its place, whatever its own port is.
        """
        service = self.service.web.url
        return {
            "PATH": PATH,
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "GLOBUS_SDK_ENVIRONMENT": "local",
            "GLOBUS_SDK_SERVICE_URL_AUTH": service,
            "GLOBUS_SDK_SERVICE_URL_COMPUTE": service,
            "GLOBUS_COMPUTE_CLIENT_ID": self.service.client_id,
            "GLOBUS_COMPUTE_CLIENT_SECRET": self.service.client_secret,
            "GLOBUS_COMPUTE_USER_DIR": str(self.folder / "client"),
            "http_proxy": service,
            "https_proxy": service,
            "no_proxy": "127.0.0.1",
        }

    @property
    def worker_environment(self) -> dict[str, str]:
        """The environment of user endpoints, and so of jobs and workers; they get no other."""
        return {
            "PATH": PATH,
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            **HOOKED,
            "GLOBUS_COMPUTE_USER_DIR": str(self.folder / "endpoint"),
            # Titles of processes must not overwrite their environment, by which tests know them.
            "SPT_NOENV": "1",
            "CWD": str(self.folder / "home"),
            **self.slurm.environment,
        }

    def start_endpoint(
        self,
        environment: Mapping[str, str] | None = None,
        profile: Path | None = None,
        **defaults: Any,
    ) -> None:
        """Start the endpoint, and wait until the service knows that it is online.

        Other defaults than those of `endpoint.DEFAULTS`, more environment for its workers, and the
        folder of a profile's endpoint, which has defaults of its own, can be given.
        """
        self.service.endpoints[self.endpoint_id].heard = float("-inf")
        self.endpoint.start(
            {**self.worker_environment, **(environment or {})}, defaults, profile=profile
        )
        self.until_online()

    def until_online(self) -> None:
        """Wait until the service has heard from the endpoint, which takes longer after a fault."""
        known = self.service.endpoints[self.endpoint_id]

        def online() -> bool:
            if not self.endpoint.running:
                raise StackError(f"the endpoint ended\n{self.logs()}")
            return known.online

        until(online, "the endpoint is not online", self.endpoint.logs)

    def stop_endpoint(self, *, at_once: bool = False) -> None:
        """End the endpoint, with its user endpoints; unless at once, with their blocks too."""
        self.endpoint.stop(at_once=at_once)

    def user_endpoint_pids(self) -> list[int]:
        """The processes that hold tasks and blocks, one for each configuration that was used."""
        return [process.pid for process in self.endpoint.user_endpoints()]

    def worker_pids(self) -> list[int]:
        """The processes that execute tasks."""
        return [process.pid for process in self.endpoint.workers()]

    def client(
        self, source: str, *arguments: str, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run Python source as a client, and wait for its end."""
        done = subprocess.run(
            [sys.executable, "-c", source, *arguments],
            env=self.environment,
            cwd=self.folder / "client",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise StackError(f"the client ended with {done.stderr}\n{self.logs()}")
        return done

    def logs(self) -> str:
        """The ends of the endpoint's logs."""
        return tails(self.endpoint.logs)


@contextmanager
def running_stack(folder: Path) -> Iterator[Stack]:
    """A stack, without a running endpoint, for the time of the context."""
    stack = Stack(folder)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()
