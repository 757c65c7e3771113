"""The login is made where there is none, and where the service does not take it any more."""

from __future__ import annotations

import globus_compute_sdk
import globus_sdk
import pytest
import requests

from palletfit.executors.globus import login


class App:
    def __init__(self, *, required: bool) -> None:
        self.required = required
        self.logins: list[bool] = []

    def login_required(self):
        return self.required

    def login(self, *, force=False):
        self.logins.append(force)


class Client:
    """Refuses requests with a status, and counts them."""

    status = 200

    def __init__(self, app) -> None:
        self.app = app
        self.checked = False

    def get_endpoints(self):
        if self.status != 200:
            response = requests.Response()
            response.status_code = self.status
            response.request = requests.Request("GET", "http://localhost").prepare()
            raise globus_sdk.GlobusAPIError(response)
        return []

    def version_check(self):
        self.checked = True


@pytest.mark.parametrize(
    ("required", "status", "logins"),
    [(True, 200, [True]), (False, 200, []), (False, 401, [True]), (False, 404, [])],
)
def test_who_is_logged_in_already_is_asked_only_if_that_was_revoked(
    monkeypatch, capsys, required, status, logins
):
    client = Client(App(required=required))
    client.status = status
    monkeypatch.setattr(globus_compute_sdk, "Client", lambda **_: client)
    login.main()
    assert client.app.logins == logins
    assert ("Logged in already" in capsys.readouterr().err) is not bool(logins)
    assert client.checked


def test_a_client_without_an_app_needs_no_login(monkeypatch, capsys):
    monkeypatch.setattr(globus_compute_sdk, "Client", lambda **_: Client(None))
    login.main()
    assert "Logged in already" in capsys.readouterr().err
