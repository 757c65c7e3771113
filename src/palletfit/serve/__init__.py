"""A service for callers in any language: points as JSON lines in, results as JSON lines out.

``protocol`` reads requests, ``models`` the likelihoods that the service knows. ``batching`` fits
points together that wait for the same question, in worker processes (``work``, ``fits``).
``connections`` reads and answers the lines of a caller, and ``doors`` opens the ways to the
service: the standard streams, a Unix socket, a TCP port.
"""
