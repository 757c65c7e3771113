"""What tests do to workers: they start them soon, hold them, kill them, and count what they fit.

Python imports this file wherever its folder is on PYTHONPATH: in endpoints, in jobs, in workers.

Most of the time in which these start, they import. So with PALLETFIT_TEST_LEAN Parsl does without
a database that nobody uses there (Snakemake needs it), and without checks of its own calls' types.
It looks at its jobs more often than once a minute, and the workers of a block are forked from one
process that has imported what they import.

The folder PALLETFIT_TEST_CONTROL says what else happens to workers. While ``hold`` exists tasks
wait, and ``held-PID`` says which process has one; ``kill-PATCH`` kills the worker that is about to
fit a patch, once if it says so; while ``engine`` exists it is the version of the engine. Every
patch that is fitted is a line of ``fitted``, and the GPUs that its worker may use are one of
``gpus``. A task that is the same as one of an earlier test has the results of that.

PALLETFIT_TEST_CONSTANTS holds other values of modules' constants, as JSON: for runs that would make
a test wait for a minute.
"""

import hashlib
import importlib.abc
import importlib.util
import json
import os
import pickle
import signal
import sys
import time
import types
from pathlib import Path

#: What workers have imported before they are forked.
_PRELOADED = (
    "parsl.executors.high_throughput.process_worker_pool",
    "globus_compute_endpoint.engines.helper",
    "palletfit.engine.choose",
    "palletfit.engine.engine",
    "palletfit.pallet.demo",
    "palletfit.products.hypotest.product",
    "palletfit.remote",
)
#: Seconds between Parsl's looks at its jobs in Slurm.
_LOOK = 5


class _Hook(importlib.abc.MetaPathFinder):
    """Changes a module when it is imported."""

    def __init__(self, module: str) -> None:
        self.module = module

    def find_spec(self, name, path=None, target=None):  # noqa: ARG002
        if name != self.module:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_change(module):
            execute(module)
            self.change(module)

        spec.loader.exec_module = execute_and_change
        return spec


class _Constants(_Hook):
    def __init__(self, module: str, values) -> None:
        super().__init__(module)
        self.values = values

    def change(self, module) -> None:
        for name, value in self.values.items():
            assert hasattr(module, name), f"{module.__name__} has no constant {name}"
            setattr(module, name, value)


class _Workers(_Hook):
    def __init__(self, control: Path) -> None:
        super().__init__("palletfit.runs.task")
        self.control = control
        #: What was fitted, in the folder that all folders of tests are in.
        self.fits = control.parent / "fits-of-workers"

    def change(self, module) -> None:
        run, fit = module.run, module._fit
        digest = ""

        def remembered(patches, setup):
            names = "".join(patch.name for patch in patches)
            file = self.fits / hashlib.sha256(f"{digest}{names}".encode()).hexdigest()
            if not file.exists():
                self.fits.mkdir(exist_ok=True)
                new = file.with_suffix(f".{os.getpid()}")
                new.write_bytes(pickle.dumps(fit(patches, setup)))
                new.rename(file)
            return pickle.loads(file.read_bytes())  # noqa: S301  written here

        def disturbed(task, workspace, **more):
            nonlocal digest
            digest = hashlib.sha256(task).hexdigest()
            names = [patch["name"] for patch in module.unpack(task)["patches"]]
            held = self.control / f"held-{os.getpid()}"
            while (self.control / "hold").exists():
                held.touch()
                time.sleep(0.05)
            held.unlink(missing_ok=True)
            for name in names:
                kill = self.control / f"kill-{name}"
                if kill.exists():
                    if kill.read_text() == "once":
                        kill.unlink()
                    # What it has fitted before is still on its way out of this process.
                    time.sleep(1.0)
                    os.kill(os.getpid(), signal.SIGKILL)
            with (self.control / "fitted").open("a") as file:
                file.write("".join(f"{name}\n" for name in names))
            with (self.control / "gpus").open("a") as file:
                file.write(os.environ.get("CUDA_VISIBLE_DEVICES", "none") + "\n")
            return run(task, workspace, **more)

        module.run, module._fit = disturbed, remembered


class _Engine(_Hook):
    """Another version of the engine, in all answers to a client."""

    def __init__(self, control: Path) -> None:
        super().__init__("palletfit.runs.remote")
        self.version = control / "engine"

    def change(self, module) -> None:
        call, own = module.call, dict(module.VERSIONS)

        def other_version(*arguments):
            named = {"batched": self.version.read_text()} if self.version.exists() else {}
            module.VERSIONS.update({**own, **named})
            return call(*arguments)

        module.call = other_version


class _Provider(_Hook):
    def __init__(self) -> None:
        super().__init__("parsl.providers.slurm.slurm")

    def change(self, module) -> None:
        module.SlurmProvider.status_polling_interval = _LOOK


def _import_less() -> None:
    """Let Parsl do without packages that cost most of the time of importing it."""
    sys.modules["sqlalchemy"] = None
    typeguard = types.ModuleType("typeguard")
    typeguard.typechecked = lambda function: function
    typeguard.TypeCheckError = TypeError
    sys.modules["typeguard"] = typeguard


def _fork_workers() -> None:
    """Let a block's workers be forked, where each would be started anew."""
    import multiprocessing
    from multiprocessing import context, popen_forkserver

    multiprocessing.set_forkserver_preload(list(_PRELOADED))
    context.SpawnProcess._Popen = staticmethod(popen_forkserver.Popen)


if "PALLETFIT_TEST_LEAN" in os.environ:
    _import_less()
sys.meta_path.insert(0, _Provider())
if any(
    argument.endswith(("process_worker_pool", "process_worker_pool.py"))
    for argument in sys.orig_argv
):
    _fork_workers()
if folder := os.environ.get("PALLETFIT_TEST_CONTROL"):
    sys.meta_path[:0] = [_Workers(Path(folder)), _Engine(Path(folder))]
for _module, _values in json.loads(os.environ.get("PALLETFIT_TEST_CONSTANTS", "{}")).items():
    sys.meta_path.insert(0, _Constants(_module, _values))
