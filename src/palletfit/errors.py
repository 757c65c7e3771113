"""Errors for the user: the problem, its file or patch, and the remedy."""

from __future__ import annotations

from pathlib import Path


class PalletfitError(Exception):
    """Problem that the user can act on.

    Parameters
    ----------
    problem
        Problem, in one sentence.
    remedy
        Action of the user, in one sentence.
    file
        The file concerned, if there is one.
    patch
        The name of the patch concerned, if there is one.
    """

    def __init__(
        self,
        problem: str,
        *,
        remedy: str,
        file: str | Path | None = None,
        patch: str | None = None,
    ) -> None:
        self.problem = problem
        self.remedy = remedy
        self.file = None if file is None else str(file)
        self.patch = patch
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [self.problem]
        if self.file is not None:
            lines.append(f"  file:   {self.file}")
        if self.patch is not None:
            lines.append(f"  patch:  {self.patch}")
        lines.append(f"  remedy: {self.remedy}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        # Pickle does not restore keyword-only arguments, and errors come from worker processes.
        return (_rebuild, (type(self), self.problem, self.remedy, self.file, self.patch))


def _rebuild(
    kind: type[PalletfitError], problem: str, remedy: str, file: str | None, patch: str | None
) -> PalletfitError:
    return kind(problem, remedy=remedy, file=file, patch=patch)


class ConfigError(PalletfitError):
    """The configuration or an analysis file is wrong."""


class DownloadError(PalletfitError):
    """A file could not be fetched."""


class UnreachableError(DownloadError):
    """A file could not be fetched now, for a reason that may pass without a change here."""


class ArchiveError(PalletfitError):
    """An archive is damaged, hostile, or lacks a file."""


class PalletError(PalletfitError):
    """A workspace, a patchset or one patch is wrong."""


class FitError(PalletfitError):
    """A fit gave no usable result."""


class BackendError(PalletfitError):
    """A tensor backend is not installed where fits run."""


class StoreError(PalletfitError):
    """A record could not be written or read."""


class SubmissionError(PalletfitError):
    """A HEPData submission would be refused."""


class ExecutorError(PalletfitError):
    """Fits cannot run where the configuration says; no patch is the cause."""
