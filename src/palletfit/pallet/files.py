"""JSON files of pallets, which come from elsewhere and are not trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from palletfit.errors import PalletError


def read_pallet_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    PalletError
        The file is missing or not JSON.
    """
    try:
        return json.loads(path.read_bytes())
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
