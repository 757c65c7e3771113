"""Records and table of the goodness of fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from palletfit.config import GoodnessSettings
from palletfit.engine.goodness import GoodnessOfFit, GoodnessToys, goodness_of_fit
from palletfit.engine.measurements import has_no_poi
from palletfit.engine.protocol import Engine
from palletfit.errors import PalletfitError
from palletfit.pallet.patches import Patch
from palletfit.runs.results import first_columns

if TYPE_CHECKING:
    import pandas as pd

#: Digits of the statistics of toys in records.
_DIGITS = 7


def compute(
    engine: Engine, patches: Sequence[Patch], settings: Mapping[str, Any]
) -> Iterator[tuple[Patch, dict[str, Any] | PalletfitError]]:
    """Compare the best fit of each patch with the saturated model.

    Yields
    ------
    tuple
        Each patch with its record as plain data, or the error that explains why there is none.
    """
    scope = GoodnessSettings.model_validate(settings["gof"])
    # What stands for a missing parameter of interest is no free parameter.
    mu = 0.0 if has_no_poi(engine.workspace, engine.settings.measurement) else scope.mu
    for patch in patches:
        try:
            result = goodness_of_fit(engine, patch, mu, toys=scope.toys, seed=scope.seed)
        except PalletfitError as error:
            error.patch = patch.name
            yield patch, error
        else:
            yield patch, as_record(result)


def as_record(result: GoodnessOfFit) -> dict[str, Any]:
    """Give plain data, with the statistics of all toys that count."""
    record = result.as_json()
    record["remarks"] = list(result.remarks)
    if result.toys is not None:
        record["toys"]["statistics"] = [
            float(f"{statistic:.{_DIGITS}g}") for statistic in result.toys.statistics
        ]
    return record


def from_record(record: Mapping[str, Any]) -> GoodnessOfFit:
    """Read what :func:`as_record` gives, among other keys."""
    content = {name: record[name] for name in GoodnessOfFit.__dataclass_fields__}
    toys = content["toys"]
    if toys is not None:
        toys = GoodnessToys(**{**toys, "statistics": np.array(toys["statistics"], dtype=float)})
    return GoodnessOfFit(**{**content, "remarks": tuple(content["remarks"]), "toys": toys})


def without_statistics(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the statistics of single toys, of which records have up to 100,000."""
    plain = {}
    for name, entry in entries.items():
        toys = entry.get("toys")
        if toys is not None:
            toys = {key: value for key, value in toys.items() if key != "statistics"}
        plain[name] = {**entry, **({"toys": toys} if "toys" in entry else {})}
    return plain


def as_table(entries: Mapping[str, Any], labels: Sequence[str]) -> pd.DataFrame:
    """Return a row for each entry; without a value where there is none."""
    import pandas as pd

    columns = ("statistic", "degrees", "p_value", "bins", "free", "constrained", "mu")
    rows = []
    for name, entry in entries.items():
        toys = entry.get("toys") or {}
        remarks = [*entry.get("remarks", ()), *([entry["problem"]] if "problem" in entry else [])]
        rows.append(
            first_columns(name, entry, labels)
            | {column: entry.get(column) for column in columns}
            | {f"toys_{column}": toys.get(column) for column in ("p_value", "p_value_error")}
            | {"toys": toys.get("toys"), "remark": "; ".join(remarks)}
        )
    return pd.DataFrame(rows)
