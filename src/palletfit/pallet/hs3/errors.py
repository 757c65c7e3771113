"""The error of an HS3 document that cannot be read or written."""

from __future__ import annotations

from palletfit.errors import PalletError


class Hs3Error(PalletError):
    """An HS3 document is wrong, or says what palletfit does not fit."""
