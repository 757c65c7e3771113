"""Fits through Globus Compute: its executor, the service, endpoints and the login."""
