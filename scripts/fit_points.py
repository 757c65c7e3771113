"""Test every point of a region's scan that has no result yet."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.core.files import write_json
from palletfit.executors import make_executor, open_ledger
from palletfit.products.points import run
from palletfit.workflow import scripting


def main(
    *,
    analysis: Analysis,
    region: str,
    settings: Settings,
    workspace: Path,
    manifest: Path,
    cores: int,
) -> None:
    """Write files of results into the folder ``points`` beside the manifest; then that."""
    todo = run.of_region(analysis, region, settings, workspace)
    ledger = open_ledger(settings.executor, manifest.parent / "tasks-points.jsonl")
    options = {"cores": cores, "ledger": ledger, "backend": settings.fit.backend}
    with make_executor(settings.executor, **options) as executor:
        content = run.run(
            todo,
            manifest.parent / "points",
            executor,
            settings.executor,
            workers=executor.workers,
            ledger=ledger,
        )
    write_json(manifest, content)


if __name__ == "__main__":
    scripting.run(main, globals())
