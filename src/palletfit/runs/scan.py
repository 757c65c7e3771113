"""The patches of one region that a product is made for, and the size of their tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from palletfit.config import Analysis, ExecutorSettings, FitSettings, Plane, Region, Settings
from palletfit.core.files import read_json
from palletfit.errors import PalletError
from palletfit.pallet.patches import Patch, json_digest
from palletfit.pallet.patchset import Patchset, parse_patchset
from palletfit.runs import task
from palletfit.runs.product import Product

#: Without a choice a task has at most so many patches, and a worker about so many tasks.
_LARGEST_TASK, _TASKS_A_WORKER = 32, 2


@dataclass(frozen=True)
class Scan:
    """The patches of one region under one set of fit settings, and a product.

    Attributes
    ----------
    title
        ``ANALYSIS/REGION``, for people.
    workspace
        The background-only workspace.
    patchset_path
        Where the patches come from, for error messages.
    patches
        The selected patches.
    labels
        Names of the patches' values.
    settings
        Fit settings.
    product
        What is asked of every patch.
    planes
        Planes in which the region's points have a contour.
    blinded
        Expected events stand for observed ones.
    """

    title: str
    workspace: Mapping[str, Any]
    patchset_path: Path
    patches: tuple[Patch, ...]
    labels: tuple[str, ...]
    settings: FitSettings
    product: Product
    planes: tuple[Plane, ...] = ()
    blinded: bool = False

    @classmethod
    def read(
        cls,
        title: str,
        workspace_path: Path,
        patchset_path: Path,
        patterns: Sequence[str],
        settings: FitSettings,
        product: Product,
        known_failures: Collection[str] = (),
    ) -> Scan:
        """Read prepared files and select patches by shell patterns.

        Raises
        ------
        PalletError
            A file is not readable, a pattern selects nothing, or a known failure is no patch.
        """
        patchset: Patchset = parse_patchset(read_json(patchset_path), patchset_path)
        for name in set(known_failures) - {patch.name for patch in patchset.patches}:
            raise PalletError(
                "There is no patch of the name that `known_failures` gives.",
                remedy="Correct or remove it in the analysis file.",
                file=patchset_path,
                patch=name,
            )
        for pattern in patterns:
            if not patchset.select([pattern]):
                raise PalletError(
                    f"No patch matches {pattern!r}.",
                    remedy="Correct `patches` in the analysis file; the first patch is "
                    f"{patchset.patches[0].name!r}.",
                    file=patchset_path,
                )
        return cls(
            title=title,
            workspace=read_json(workspace_path),
            patchset_path=patchset_path,
            patches=patchset.select(patterns),
            labels=patchset.labels,
            settings=settings,
            product=product,
        )

    def part(self, number: int, of: int) -> Scan:
        """Every `of`-th patch from the `number`-th on, which counts from one."""
        return replace(
            self, title=f"{self.title} ({number} of {of})", patches=self.patches[number - 1 :: of]
        )

    @property
    def workspace_digest(self) -> str:
        """Sha256 of the background-only workspace, independent of formatting."""
        return json_digest(self.workspace)

    def task(self, patches: Sequence[Patch], workspace_digest: str) -> bytes:
        """Ask for some of the patches."""
        return task.make_task(patches, workspace_digest, self.settings, self.product)


#: Looks on while patches are fitted: entered with the records that are kept, by patch name, it
#: gives what is called with every further one, once that is on the disk.
Observer = Callable[
    [Scan, Mapping[str, Mapping[str, Any]]],
    AbstractContextManager[Callable[[Mapping[str, Any]], None]],
]


def of_region(
    analysis: Analysis,
    region: str,
    settings: Settings,
    product: type[Product],
    workspace: Path,
    patchset: Path,
    chosen: Sequence[Path] = (),
) -> Scan:
    """Read what is asked of one region of an analysis.

    Parameters
    ----------
    analysis, region, settings, product
        What is asked, of what.
    workspace, patchset
        The region's prepared files.
    chosen
        For products of chosen patches the file that names them, by region; none: all are.

    Raises
    ------
    PalletError
        See :meth:`Scan.read`.
    ConfigError
        The product cannot be made under this configuration.
    """
    product.check(settings)
    scan = Scan.read(
        product.title(f"{analysis.name}/{region}"),
        workspace,
        patchset,
        analysis.patches,
        fit_of(analysis.regions[region], settings),
        product.of(settings),
        analysis.regions[region].known_failures,
    )
    scan = replace(
        scan,
        planes=tuple(analysis.planes.values()),
        blinded=analysis.choice_of(region).blinded,
    )
    if not chosen:
        return scan
    names = {name for path in chosen for name in read_json(path).get(region, [])}
    return replace(scan, patches=tuple(patch for patch in scan.patches if patch.name in names))


def fit_of(region: Region, settings: Settings) -> FitSettings:
    """Return the settings of fits of a region.

    The prepared workspace of a complete one has the measurement that was chosen, and no other one.
    """
    fit = settings.fit
    return fit.model_copy(update={"measurement": None}) if region.complete else fit


def patches_per_task(
    patches: int,
    fit: FitSettings,
    settings: ExecutorSettings,
    workers: int,
    product: Product,
) -> int:
    """Return how many patches share a task.

    The batched engine gains from many; workers that end together, and records that are written
    early, ask for few.
    """
    if product.alone:
        return 1
    if settings.patches_per_task:
        return settings.patches_per_task
    if fit.engine == "reference":
        return 1
    return max(1, min(_LARGEST_TASK, math.ceil(patches / (_TASKS_A_WORKER * workers))))
