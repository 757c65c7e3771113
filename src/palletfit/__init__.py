"""Distributed statistical inference on published likelihoods."""

from __future__ import annotations

__version__ = "0.1.0"
