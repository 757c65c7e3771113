"""What tests do to workers: they hold them, kill them, and count what they fit.

Python imports this file wherever its folder is on PYTHONPATH. It changes
``palletfit.runs.task.run`` when that is imported, and nothing else. In the folder
PALLETFIT_TEST_CONTROL, while ``hold`` exists tasks wait, and ``held-PID`` says which process has
one; ``kill-PATCH`` kills the worker that is about to fit a patch, once if it says so; ``engine`` is
another version of the engine. Every patch that is fitted is a line of ``fitted``, and the GPUs that
its worker may use are one of ``gpus``.

PALLETFIT_TEST_CONSTANTS holds other values of modules' constants, as JSON: for runs that would make
a test wait for a minute.
"""

import importlib.abc
import importlib.util
import json
import os
import signal
import sys
import time
from pathlib import Path


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

    def change(self, module) -> None:
        run = module.run

        def disturbed(task, workspace, **more):
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

        module.run = disturbed
        if (self.control / "engine").exists():
            from palletfit.engine import versions as engines

            engines.VERSIONS["batched"] = (self.control / "engine").read_text()


if folder := os.environ.get("PALLETFIT_TEST_CONTROL"):
    sys.meta_path.insert(0, _Workers(Path(folder)))
for _module, _values in json.loads(os.environ.get("PALLETFIT_TEST_CONSTANTS", "{}")).items():
    sys.meta_path.insert(0, _Constants(_module, _values))
