"""JSON files of pallets, which come from elsewhere and are not trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from palletfit.errors import PalletError
from palletfit.pallet.limits import CONTENT_BYTES, check_depth, content_bytes


def read_pallet_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    PalletError
        The file is missing, not JSON, or beyond the limits of :mod:`palletfit.pallet.limits`.
    """
    content = _parse(path)
    check_depth(content, path)
    return content


def _parse(path: Path) -> Any:
    try:
        # The text itself may be larger than the memory.
        if path.stat().st_size > CONTENT_BYTES:
            raise _too_large(path)
        text = path.read_bytes()
        if content_bytes(text) > CONTENT_BYTES:
            raise _too_large(path)
        return json.loads(text)
    except OSError as error:
        raise PalletError(
            f"Cannot read the file: {error.strerror}.", remedy="Check its path.", file=path
        ) from None
    except ValueError as error:  # neither text, nor JSON, or with a number of thousands of digits
        raise PalletError(
            f"The file is not JSON: {error}.",
            remedy="Fetch it again, or check which file of the archive the analysis names.",
            file=path,
        ) from None
    except RecursionError:
        raise PalletError(
            "The file nests too deeply for a workspace or patchset.",
            remedy="Check which file of the archive the analysis names.",
            file=path,
        ) from None
    except MemoryError:
        raise PalletError(
            "The file does not fit into memory.",
            remedy="Close other programs, or use a machine with more memory.",
            file=path,
        ) from None


def _too_large(path: Path) -> PalletError:
    return PalletError(
        "The file is too large for a workspace or patchset: its content would take more than "
        f"{CONTENT_BYTES // 1024**2} MiB of memory.",
        remedy="Check which file of the archive the analysis names; split a patchset of this size "
        "into several, each with its own region.",
        file=path,
    )
