"""Log in to Globus Compute: ``python -m palletfit.login``.

Prints an address, asks for the code that is shown there, and keeps the token in the user's home
folder, as every program of Globus Compute does. Runs of the workflow never ask.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from globus_compute_sdk import Client


def main() -> None:
    """Log in unless that is done already, and ask the service for its version."""
    from globus_compute_sdk import Client

    client = Client(do_version_check=False)
    if client.app is None or not (client.app.login_required() or _is_refused(client)):
        print("Logged in already.", file=sys.stderr)  # noqa: T201
    else:
        client.app.login(force=True)
    client.version_check()


def _is_refused(client: Client) -> bool:
    """Tell whether the service refuses a login that is kept here: it may have been revoked."""
    import globus_sdk

    try:
        client.get_endpoints()
    except globus_sdk.AuthAPIError:
        return True
    except globus_sdk.GlobusAPIError as error:
        return bool(error.http_status == 401)
    return False


if __name__ == "__main__":
    main()
