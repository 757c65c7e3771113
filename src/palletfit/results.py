"""Results by patch name, and their manners in a notebook."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from palletfit.core.text import printable
from palletfit.errors import PalletfitError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: Largest number of rows of the table that a notebook shows.
_ROWS = 12


class HasRow(Protocol):
    """A result with a row of a table."""

    def row(self) -> dict[str, Any]:
        """Give the result's plain numbers by column."""


Result = TypeVar("Result", bound=HasRow)


@dataclass(frozen=True, repr=False)
class Results(Mapping[str, Result], Generic[Result]):
    """Results by patch name, in the order of the patchset.

    In a notebook they are shown as a table.

    Attributes
    ----------
    results
        Those that there are.
    errors
        Why patches have no result, by name.
    values_of
        Values of each patch (masses, for example), by name.
    labels
        Names of these values.
    confidence_level
        Confidence level of the limits that results have; None where they have none.
    """

    results: Mapping[str, Result]
    errors: Mapping[str, PalletfitError] = field(default_factory=dict)
    values_of: Mapping[str, Sequence[float | str]] = field(default_factory=dict)
    labels: Sequence[str] = ()
    confidence_level: float | None = None

    def __getitem__(self, name: str) -> Result:
        if name in self.errors:
            raise self.errors[name]
        return self.results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __repr__(self) -> str:
        return f"<{self._summary()}>"

    def _repr_html_(self) -> str:
        """Write the summary and the first and last rows as HTML, for a notebook."""
        table = self.to_dataframe().map(_shown)
        return f"<p>{html.escape(self._summary())}</p>{table.to_html(index=False, max_rows=_ROWS)}"

    def _summary(self) -> str:
        count = len(self.values_of)
        kinds = {type(result).__name__ for result in self.results.values()}
        of = f" with {' and '.join(sorted(kinds))}" if kinds else ""
        statuses = Counter(str(result.row()["status"]) for result in self.results.values())
        statuses["failed"] += len(self.errors)
        states = ", ".join(f"{number} {status}" for status, number in statuses.items() if number)
        return f"Results of {count} {'patch' if count == 1 else 'patches'}{of}: {states or 'none'}"

    @property
    def only(self) -> Result:
        """The result, where there is one; reading a failed one raises its error.

        Raises
        ------
        ValueError
            There are several.
        """
        (name,) = self.values_of
        return self[name]

    def rows(self) -> list[dict[str, Any]]:
        """Make one plain row a patch, failed ones included."""
        table = []
        for name, values in self.values_of.items():
            row: dict[str, Any] = {"patch": name, **dict(zip(self.labels, values, strict=True))}
            result = self.results.get(name)
            if result is None:
                row |= {"status": "failed", "remark": self.errors[name].problem}
            else:
                row |= result.row()
            table.append(row)
        return table

    def to_dataframe(self) -> pd.DataFrame:
        """Make a table with one row a patch, failed ones included.

        Returns
        -------
        pandas.DataFrame
            The columns are ``patch``, the labels, ``status``, the numbers of the result, and
            ``remark``. Numbers of a failed patch are NaN.
        """
        import pandas as pd

        table = pd.DataFrame(self.rows())
        # A patch that failed has no numbers, and may be the first row.
        return table[[*(name for name in table if name != "remark"), "remark"]]

    def plot(
        self,
        patch: str | None = None,
        *,
        x: str | None = None,
        y: str | None = None,
        select: str | None = None,
        confidence_level: float | None = None,
    ) -> Figure:
        """Draw the results.

        CLs and limits of many patches are drawn in a plane with their contours. Those of fewer
        than three, or of patches without two numbers each, are drawn as bands. Other results are
        drawn for one patch.

        Parameters
        ----------
        patch
            Name of the patch to draw alone; None: all of them.
        x, y
            Expressions of the labels for the axes of the plane; None: the first two labels whose
            values are numbers that differ.
        select
            Condition on the labels for the points of the plane, such as ``"m3 == 60"``.
        confidence_level
            Confidence level of the contours of CLs, by default 0.95. Limits have their own.

        Returns
        -------
        matplotlib.figure.Figure
            A figure, which a notebook shows, and which has ``savefig``.

        Raises
        ------
        ConfigError
            There is no such patch or label, or such results are drawn for one patch only; or the
            limits have another confidence level.
        PalletfitError
            The patch failed.
        """
        from palletfit import notebook

        return notebook.draw(
            self, patch, x=x, y=y, select=select, confidence_level=confidence_level
        )


def _shown(value: Any) -> Any:
    """Shorten a cell of a table; names may hold any characters."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return printable(value) if isinstance(value, str) else value
