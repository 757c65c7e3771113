"""Files, locks, processes and progress, for every other package.

Nothing here depends on physics, configuration or executors.
"""
