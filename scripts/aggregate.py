"""Write the table of a product from the records of all regions of an analysis."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.runs.product import Gathered, Product
from palletfit.workflow import scripting
from palletfit.workflow.scripting import Outputs


def main(
    *,
    analysis: Analysis,
    settings: Settings,
    product: type[Product],
    manifests: list[Path],
    tests: list[Path] = (),
    results: list[Path] = (),
    outputs: Outputs,
) -> None:
    """Write the table's files, which are named by their ending."""
    gathered = Gathered(analysis, settings, manifests, tests, results[0] if results else None)
    product.write_table(gathered, {ending: files[0] for ending, files in outputs.items()})


if __name__ == "__main__":
    scripting.run(main, globals())
