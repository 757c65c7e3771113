"""Log in to Globus Compute: ``python -m palletfit.login``.

Prints an address, asks for the code that is shown there, and keeps the token in the user's home
folder, as every program of Globus Compute does. Runs of the workflow never ask.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Log in unless that is done already, and ask the service for its version."""
    from globus_compute_sdk import Client

    client = Client(do_version_check=False)
    if client.app is None or not client.app.login_required():
        print("Logged in already.", file=sys.stderr)  # noqa: T201
    else:
        client.app.login()
    client.version_check()


if __name__ == "__main__":
    main()
