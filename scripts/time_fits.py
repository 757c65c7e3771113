"""Time all fits of an analysis once, with one of the executors of the benchmark."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.core.files import write_json
from palletfit.core.locks import waiting_lock
from palletfit.executors import make_executor, open_ledger
from palletfit.products.hypotest import Hypotest
from palletfit.runs.scan import Scan, fit_of
from palletfit.workflow import scripting
from palletfit.workflow import timing as scaling


def main(
    *,
    analysis: Analysis,
    case: str,
    settings: Settings,
    workspaces: list[Path],
    patchsets: list[Path],
    times: Path,
    cores: int,
) -> None:
    """Write the time of one repetition; workspaces and patchsets are in the order of regions."""
    chosen = settings.benchmark_executor(case)
    scans = [
        scaling.select(
            Scan.read(
                f"{analysis.name}/{region}",
                *files,
                analysis.patches,
                fit_of(analysis.regions[region], settings),
                Hypotest(),
            ),
            settings.benchmark.patches,
        )
        for region, *files in zip(analysis.used_regions, workspaces, patchsets, strict=True)
    ]
    # A worker on this machine has one thread, whatever their number.
    options = {"cores": chosen.workers or cores, "backend": settings.fit.backend}
    # Two timings side by side would both be wrong.
    with waiting_lock(times.parents[2] / ".lock", activity="timing fits"):
        content = scaling.measure(
            scans,
            chosen,
            times.parent,
            lambda ledger: make_executor(chosen, ledger=ledger, **options),
            lambda path: open_ledger(chosen, path),
        )
    write_json(times, content)


if __name__ == "__main__":
    scripting.run(main, globals())
