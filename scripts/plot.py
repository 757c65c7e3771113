"""Draw a plot of a product: of a plane, along a slice of it, of a patch, or by names."""

from pathlib import Path

from palletfit.config import Analysis, Settings
from palletfit.runs.product import Drawing, Product
from palletfit.workflow import scripting
from palletfit.workflow.scripting import Outputs


# Parameters are called as the wildcards are.
def main(
    *,
    analysis: Analysis,
    settings: Settings,
    product: type[Product],
    kind: str,
    plane: str = "",
    slice: str = "",  # noqa: A002
    stem: str = "",
    table: list[Path] = (),
    curves: list[Path] = (),
    manifests: list[Path] = (),
    outputs: Outputs,
) -> None:
    """Write the files of a plot whose kind is plane, slice, patch or names."""
    inputs = {"table": table, "curves": curves}
    drawing = Drawing(
        analysis=analysis,
        settings=settings,
        files=outputs,
        subject={"plane": plane, "slice": slice, "patch": stem, "names": ""}[kind],
        inputs={name: files[0] for name, files in inputs.items() if files},
        manifests=manifests,
    )
    draw = {
        "plane": product.draw_plane,
        "slice": product.draw_slice,
        "patch": product.draw_patch,
        "names": product.draw_names,
    }
    draw[kind](drawing)


if __name__ == "__main__":
    scripting.run(main, globals())
