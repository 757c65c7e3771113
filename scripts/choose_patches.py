"""Choose the patches that a product is made for, from a table of all of them."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.core.files import read_json, write_json
from palletfit.runs.product import Product
from palletfit.workflow import scripting


def main(
    *, analysis: Analysis, product: type[Product], settings: Settings, table: Path, chosen: Path
) -> None:
    """Write the names of the chosen patches by region."""
    # A configuration for several analyses may name patches of each.
    alone = len(settings.analysis_names) == 1
    content = read_json(table)
    names = product.choose(content, settings, analysis=analysis.name, all_patterns=alone)
    write_json(chosen, names)


if __name__ == "__main__":
    scripting.run(main, globals())
