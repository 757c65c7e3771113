"""Planes of signal points: contours, published curves, and plots of both."""
