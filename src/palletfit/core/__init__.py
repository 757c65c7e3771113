"""Files, locks, processes and progress: what every other package stands on.

Knows nothing of physics, configuration or executors.
"""
