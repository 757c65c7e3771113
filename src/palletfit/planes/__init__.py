"""Planes of signal points: contours in them, published curves, and how they are drawn."""
