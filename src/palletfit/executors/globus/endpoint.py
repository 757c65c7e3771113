"""Set up a Globus Compute endpoint from a profile, on a login node.

    python -m palletfit.endpoint profiles/expanse/endpoint palletfit-expanse

Runs ``globus-compute-endpoint configure`` unless the endpoint exists, and replaces its
configuration by the profile's files. User endpoints get the path of this environment as
``PALLETFIT_ENV``, and find its programs first. Running it again brings an endpoint up to date,
which has to be restarted then.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from palletfit.errors import ConfigError, PalletfitError

#: Files of an endpoint in a profile's folder.
FILES = ("config.yaml", "user_config_template.yaml.j2", "user_config_schema.json")
ENVIRONMENT = "user_environment.yaml"


def install(profile: Path, name: str) -> Path:
    """Configure an endpoint.

    Parameters
    ----------
    profile
        Folder with :data:`FILES` and, if a site needs it, :data:`ENVIRONMENT`.
    name
        Name of the endpoint.

    Returns
    -------
    Path
        The endpoint's folder.

    Raises
    ------
    ConfigError
        A file is missing, or the endpoint cannot be configured.
    """
    missing = [file for file in FILES if not (profile / file).is_file()]
    if missing:
        raise ConfigError(
            f"The profile has no {' and no '.join(missing)} for an endpoint.",
            remedy="Name the `endpoint` folder of a profile, such as profiles/expanse/endpoint.",
            file=profile,
        )
    root = Path(os.environ.get("GLOBUS_COMPUTE_USER_DIR") or Path.home() / ".globus_compute")
    folder = root / name
    if not folder.is_dir():
        _configure(name)
    for file in FILES:
        shutil.copyfile(profile / file, folder / file)
    variables: dict[str, str] = {}
    if (profile / ENVIRONMENT).is_file():
        variables = yaml.safe_load((profile / ENVIRONMENT).read_text()) or {}
    # They start programs of this environment by name, whether or not it is the active one here.
    path = variables.get("PATH") or os.environ.get("PATH") or os.defpath
    variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), path])
    variables["PALLETFIT_ENV"] = sys.prefix
    (folder / ENVIRONMENT).write_text(yaml.safe_dump(variables))
    return folder


def _configure(name: str) -> None:
    program = Path(sys.executable).parent / "globus-compute-endpoint"
    # For one person. An endpoint for several, who are mapped to accounts, needs more settings.
    command = [str(program), "configure", "--multi-user", "false", name]
    try:
        subprocess.run(command, check=True)  # noqa: S603  its own program
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigError(
            f"The endpoint cannot be configured: {error}",
            remedy="Install the environment of envs/endpoint.txt, and log in with "
            "`python -m palletfit.login`.",
        ) from error


def main() -> None:
    """Install an endpoint, and print the command that starts it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("profile", type=Path, help="folder with an endpoint's configuration")
    parser.add_argument("name", help="name of the endpoint")
    arguments = parser.parse_args()
    try:
        folder = install(arguments.profile, arguments.name)
    except PalletfitError as error:
        sys.exit(str(error))
    program = Path(sys.executable).parent / "globus-compute-endpoint"
    print(f"Configured {folder}. Start it with\n  {program} start {arguments.name}")  # noqa: T201


if __name__ == "__main__":
    main()
