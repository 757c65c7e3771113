"""Runs of snakemake without its imports, which cost more than many a run.

As a program it imports Snakemake once, and then forks for every command line that it reads: what
runs is the same code in a process of its own, with the folder, the environment and the output that
are asked for.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


class Snakemake:
    """A process that has imported Snakemake, and forks for each run."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(
        self,
        arguments: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        output: Path,
        timeout: float,
    ) -> int:
        """Run snakemake to its end.

        Parameters
        ----------
        arguments
            Its command line, without the program.
        folder, environment
            Where it runs.
        output
            File for what it prints.
        timeout
            Seconds.

        Returns
        -------
        int
            Its exit status.

        Raises
        ------
        TimeoutError
            It did not end in time, and was killed.
        """
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        request = [list(arguments), str(folder), dict(environment), str(output)]
        stdin.write(json.dumps(request) + "\n")
        stdin.flush()
        if not select.select([stdout], [], [], timeout)[0]:
            self.close()
            raise TimeoutError(f"snakemake did not end within {timeout:g} s: {output.read_text()}")
        return int(stdout.readline())

    def close(self) -> None:
        """End the process, and a run that has not ended."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None


def _serve() -> list[str]:
    """Fork for each request; give the command line in the process that has to run it."""
    for line in sys.stdin:
        arguments, folder, environment, output = json.loads(line)
        child = os.fork()
        if child == 0:
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)
            target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            nothing = os.open(os.devnull, os.O_RDONLY)
            for source, number in ((nothing, 0), (target, 1), (target, 2)):
                os.dup2(source, number)
            return ["snakemake", *arguments]
        status = os.waitpid(child, 0)[1]
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    from snakemake import cli

    # Its plugins, and what else it and the Snakefile import.
    cli.get_argument_parser()
    for name in ("smart_open", "palletfit.config", "palletfit.runs.registry"):
        importlib.import_module(name)
    # The folder of this file, which a run has not on its path.
    del sys.path[0]
    sys.argv = _serve()
    cli.main()
