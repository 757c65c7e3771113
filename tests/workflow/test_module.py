"""Another workflow uses this one as a module, and gives its rules other names."""

from __future__ import annotations

import subprocess
import sys

from .conftest import Folder

WORKFLOW = """
module palletfit:
    snakefile: "{snakefile}"
    config: config

use rule * from palletfit as fits_*

rule mine:
    default_target: True
    input: "results/demo/limits.json"
    output: "count.txt"
    shell: "wc -c {{input}} > {{output}}"
"""


def test_known_analyses_are_found(folder: Folder) -> None:
    snakefile = folder.path / "Snakefile"
    snakefile.write_text(WORKFLOW.format(snakefile=folder.project / "Snakefile"))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "snakemake",
            "--cores",
            "1",
            "--dry-run",
            "--config",
            "analyses=demo",
        ],
        cwd=folder.path,
        env=folder.environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "demo/combined: limits of all patches that have none yet" in done.stdout + done.stderr
