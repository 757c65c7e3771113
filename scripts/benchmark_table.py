"""Fold the times of all repetitions into a table and a plot."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.core.files import read_json, write_atomically
from palletfit.planes.style import save
from palletfit.workflow import scripting
from palletfit.workflow import timing as scaling
from palletfit.workflow.plots import draw_times


def main(
    *,
    settings: Settings,
    analyses: dict[str, Analysis],
    times: list[Path],
    table: Path,
    markdown: Path,
    png: Path,
    pdf: Path,
) -> None:
    """Write the table as CSV and Markdown, and the bar plot.

    Each repetition is in a file ``ANALYSIS/EXECUTOR/NUMBER.json``.
    """
    repetitions = {}
    for path in times:
        case = path.parent.parent.name, path.parent.name
        repetitions.setdefault(case, []).append(read_json(path))
    executors = {name: settings.benchmark_executor(name) for name in settings.benchmark.executors}
    rows = scaling.fold(analyses, executors, repetitions, settings.benchmark.single_node)
    machines = [
        repetition["machine"]
        for times_of_case in repetitions.values()
        for repetition in times_of_case
    ]
    write_atomically(table, scaling.as_table(rows).to_csv(index=False))
    write_atomically(markdown, scaling.as_markdown(rows, machines))
    save(draw_times(rows), [png, pdf])


if __name__ == "__main__":
    scripting.run(main, globals())
