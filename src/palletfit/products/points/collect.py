"""One table of all points of a scan, from the files of its regions, in bounded memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from palletfit.core.files import atomic_file, read_json
from palletfit.errors import StoreError
from palletfit.products.points.parts import DERIVATIVES, METADATA, NLLS, RESULTS, PartStore, read
from palletfit.products.points.sources import Names, duplicate

#: Rows of a group of rows: columnar files are read well in groups of this size.
_GROUP = 16_384


@dataclass(frozen=True)
class _Region:
    """The files of one region."""

    name: str
    store: PartStore
    manifest: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> _Region:
        return cls(path.parent.name, PartStore(path.parent / "points"), read_json(path))

    def part(self, number: int) -> pa.Table:
        path = self.store.path(number)
        part = read(path)
        if part is None or part.key != self.manifest["parts"][number]["key"]:
            raise StoreError(
                "A file of results is missing, damaged, or of another scan.",
                remedy="Run the same command again: exactly its points are fitted.",
                file=path,
            )
        return part.table


def collect(
    manifests: Sequence[Path],
    labels: Sequence[str],
    table: Path,
    level: float,
    *,
    blinded: bool = False,
) -> dict[str, int]:
    """Write the table of all points, each from the region with the best (lowest) expected CLs.

    Parameters
    ----------
    manifests
        Of the regions that are fitted.
    labels
        Names of the points' values.
    table
        Path of the Parquet file.
    level
        Confidence level at which points count as excluded.
    blinded
        Leave columns of observed results empty, and count points that are excluded as expected.

    Returns
    -------
    dict
        Number of points, of points of each status, and of excluded points.

    Raises
    ------
    StoreError
        A file of a region is missing or damaged, or the table cannot be written.
    PalletError
        Two points have one name.
    """
    regions = [_Region.read(path) for path in manifests]
    schema = _schema(regions, labels)
    counts: Counter[str] = Counter()
    names, order = Names(), []
    with atomic_file(table) as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for fitted in _groups(regions, schema):
                group = _without_observed(fitted) if blinded else fitted
                writer.write_table(group, row_group_size=_GROUP)
                names.add(group["name"].to_pylist())
                counts.update(group["status"].to_pylist())
                counts["points"] += len(group)
                order.append(len(group))
                tested = group["CLs_exp_0" if blinded else "CLs_obs"]
                excluded = pc.sum(pc.less(tested, 1.0 - level)).as_py()
                counts["excluded"] += excluded or 0
            totals = {
                name: counts[name] for name in ("points", "excluded", "ok", "suspect", "failed")
            }
            metadata = {
                **totals,
                "confidence_level": level,
                "titles": [r.manifest["title"] for r in regions],
            }
            writer.add_key_value_metadata({METADATA: json.dumps(metadata).encode()})
        for first, second in names.repeated():
            raise duplicate(table, _name(regions[0], second), first, second)
    return totals


def _without_observed(group: pa.Table) -> pa.Table:
    """Empty the columns of observed results, which stand for those of expected events."""
    for index, name in enumerate(group.column_names):
        if "_obs" in name and name in {*RESULTS, *NLLS}:
            kind = group.schema.field(name)
            group = group.set_column(index, kind, pa.nulls(len(group), kind.type))
    return group


def counts_of(table: Path) -> dict[str, Any]:
    """Read the numbers of :func:`collect` from the metadata of its table."""
    counts: dict[str, Any] = json.loads(pq.read_metadata(table).metadata[METADATA])
    return counts


def _schema(regions: Sequence[_Region], labels: Sequence[str]) -> pa.Schema:
    """Make the schema of the table; a label that is a text in one file is a text in all."""
    texts: set[str] = set()
    columns: set[str] = set()
    for region in regions:
        for number in range(len(region.manifest["parts"])):
            try:
                schema = pq.read_schema(region.store.path(number))
            except (OSError, pa.ArrowException):
                region.part(number)  # raises an error with the reason
                raise
            columns |= {*schema.names}
            texts |= {name for name in labels if pa.types.is_string(schema.field(name).type)}
    return pa.schema(
        [
            ("name", pa.string()),
            *((label, pa.string() if label in texts else pa.float64()) for label in labels),
            ("region", pa.string()),
            *RESULTS.items(),
            *((name, kind) for name, kind in NLLS.items() if name in columns),
            *((name, kind) for name, kind in DERIVATIVES.items() if name in columns),
        ]
    )


def _groups(regions: Sequence[_Region], schema: pa.Schema) -> Iterator[pa.Table]:
    pieces: list[pa.Table] = []
    for number in range(len(regions[0].manifest["parts"])):
        pieces.append(_combined(regions, number, schema))
        if sum(map(len, pieces)) >= _GROUP:
            yield pa.concat_tables(pieces)
            pieces = []
    if pieces:
        yield pa.concat_tables(pieces)


def _combined(regions: Sequence[_Region], number: int, schema: pa.Schema) -> pa.Table:
    """Combine the points of a chunk, each from its best region."""
    tables = []
    for region in regions:
        part = region.part(number)
        named = part.append_column("region", pa.array([region.name] * len(part), pa.string()))
        tables.append(named.select(schema.names).cast(schema))
        if not named["name"].equals(tables[0]["name"]):
            raise StoreError(
                f"The regions {regions[0].name} and {region.name} have other points.",
                remedy="Run the same command again; both are to be made from the same points.",
                file=region.store.path(number),
            )
    if len(tables) == 1:
        return tables[0]
    # A failed region is worse than any that has a result.
    expected = [
        pc.fill_null(table["CLs_exp_0"], 2.0).to_numpy(zero_copy_only=False) for table in tables
    ]
    best = np.argmin(np.stack(expected), axis=0)
    rows = best * len(best) + np.arange(len(best))
    return pa.concat_tables(tables).take(pa.array(rows)).combine_chunks()


def _name(region: _Region, number: int) -> str:
    for part in range(len(region.manifest["parts"])):
        names = region.part(part)["name"]
        if number < len(names):
            return str(names[number].as_py())
        number -= len(names)
    return ""
