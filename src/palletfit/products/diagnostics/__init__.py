"""Pulls, impacts, correlations, yields and significance of the fits of a patch."""
