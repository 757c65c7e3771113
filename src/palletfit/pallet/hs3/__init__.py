"""Likelihoods in the HEP Statistics Serialization Standard (HS3): read, recognised, written."""

from __future__ import annotations

from palletfit.pallet.hs3.document import is_hs3
from palletfit.pallet.hs3.errors import Hs3Error
from palletfit.pallet.hs3.reader import convert_hs3, read_hs3, read_workspace
from palletfit.pallet.hs3.writer import hs3_document, write_hs3

__all__ = [
    "Hs3Error",
    "convert_hs3",
    "hs3_document",
    "is_hs3",
    "read_hs3",
    "read_workspace",
    "write_hs3",
]
