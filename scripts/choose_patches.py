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
    write_json(chosen, product.chosen(read_json(table), analysis, settings))


if __name__ == "__main__":
    scripting.run(main, globals())
