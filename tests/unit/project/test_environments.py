"""The environments under envs/ agree with each other, with pyproject.toml and with the code."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[3]
ENVS = ROOT / "envs"
LOCKS = [
    *("worker", "workflow", "clusters", "dev", "docs", "extras"),
    *("endpoint", "endpoint-cuda", "endpoint-kubernetes"),
]

#: Conda's name of a package where it is not the registry's.
CONDA_NAMES = {"matplotlib": "matplotlib-base", "snakemake": "snakemake-minimal"}
#: What an extra in a requirement brings; conda has no extras.
EXTRAS = {"pyhf[minuit]": "iminuit"}
#: Names of imported modules where they are not the package's; pydantic_core is half of pydantic.
MODULES = {"pydantic_core": "pydantic", "yaml": "pyyaml"}
#: What builds palletfit: needed beside it, not by it.
BUILD = {"hatchling"}


@dataclass(frozen=True)
class Locked:
    version: str
    marker: str
    hashes: frozenset[str]


@cache
def direct(name: str) -> dict[str, Requirement]:
    """Requirements of ``envs/NAME.in`` and of the files that it includes."""
    found = {}
    for raw in (ENVS / f"{name}.in").read_text(encoding="utf-8").splitlines():
        line = raw.split("#", 1)[0].strip()
        if line.startswith("-r "):
            found |= direct(line.removeprefix("-r ").removesuffix(".in"))
        elif line:
            requirement = Requirement(line)
            found[canonicalize_name(requirement.name)] = requirement
    return found


@cache
def locked(name: str) -> dict[str, Locked]:
    """Pinned requirements of ``envs/NAME.txt``."""
    text = (ENVS / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        pin, *hashes = re.split(r"\s+--hash=", line.strip())
        requirement = Requirement(pin)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        assert requirement.name not in found, f"{requirement.name} is locked twice"
        found[requirement.name] = Locked(
            specifier.version, str(requirement.marker or ""), frozenset(hashes)
        )
    return found


def complete(name: str, wanted: list[Requirement]) -> None:
    """Follow requirements, as the packages that are installed here state them, to their ends."""
    pins = locked(name)
    followed = set()
    while wanted:
        requirement = wanted.pop()
        package, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (package, extras) in followed:
            continue
        followed.add((package, extras))
        assert package in pins, f"{package} is not in envs/{name}.txt"
        assert requirement.specifier.contains(pins[package].version, prereleases=True), requirement
        try:
            stated = distribution(package).requires or []
        except PackageNotFoundError:
            continue  # of an environment that is not this one
        wanted += [
            needed
            for needed in map(Requirement, stated)
            if needed.marker is None
            or any(needed.marker.evaluate({"extra": extra}) for extra in extras | {""})
        ]


def conda(name: str) -> dict[str, str]:
    """Pinned dependencies of ``envs/NAME.yaml``; the version is empty where there is none."""
    data = yaml.safe_load((ENVS / f"{name}.yaml").read_text(encoding="utf-8"))
    pairs = (entry.partition(" =") for entry in data["dependencies"])
    return {package: version for package, _, version in pairs}


def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def declared(*extras: str) -> dict[str, Requirement]:
    """Dependencies in pyproject.toml with those of the given extras."""
    lines = list(project()["dependencies"])
    for extra in extras:
        lines += project()["optional-dependencies"][extra]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_requirement_has_hashes(name):
    for package, pin in locked(name).items():
        assert pin.hashes, f"{package} in envs/{name}.txt has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in pin.hashes), package


@pytest.mark.parametrize("path", sorted(ENVS.iterdir()), ids=lambda path: path.name)
def test_no_file_names_a_host_or_a_local_path(path):
    for line in path.read_text(encoding="utf-8").splitlines():
        content = line.split("#", 1)[0]
        assert "://" not in line, line
        assert "@" not in content, f"a direct reference: {line}"
        options = (
            re.findall(r"(?:^|\s)(--?[a-z][a-z-]*)", content) if path.suffix != ".yaml" else []
        )
        assert set(options) <= {"-r", "--hash"}, line


@pytest.mark.parametrize("name", LOCKS)
def test_lock_holds_the_direct_dependencies(name):
    pins = locked(name)
    for package, requirement in direct(name).items():
        assert package in pins, f"{package} is missing in envs/{name}.txt; run make lock"
        assert pins[package].version in requirement.specifier, f"{package}; run make lock"


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_is_complete(name):
    """pip installs what is locked and resolves nothing."""
    complete(name, list(direct(name).values()))


def test_a_lock_that_misses_a_dependency_is_seen(monkeypatch):
    pins = dict(locked("worker"))
    del pins["jsonschema"]  # only pyhf needs it
    monkeypatch.setattr(sys.modules[__name__], "locked", lambda _: pins)
    with pytest.raises(AssertionError, match=r"jsonschema is not in envs/worker\.txt"):
        complete("worker", list(direct("worker").values()))


#: Where a larger environment must have what a smaller one has.
PLATFORMS = [
    {"sys_platform": "linux", "platform_machine": "x86_64"},
    {"sys_platform": "linux", "platform_machine": "aarch64"},
    {"sys_platform": "darwin", "platform_machine": "arm64"},
]


def needed(pin: Locked, platform: dict[str, str]) -> bool:
    return not pin.marker or Marker(pin.marker).evaluate(platform)


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        ("worker", "workflow"),
        ("workflow", "clusters"),
        ("workflow", "docs"),
        ("clusters", "dev"),
        ("worker", "endpoint"),
        ("endpoint", "endpoint-cuda"),
        ("endpoint", "endpoint-kubernetes"),
        ("endpoint", "dev"),
    ],
)
def test_larger_environment_contains_the_smaller(smaller, larger):
    large = locked(larger)
    for package, pin in locked(smaller).items():
        assert package in large, package
        assert (pin.version, pin.hashes) == (large[package].version, large[package].hashes)
        for platform in PLATFORMS:
            assert needed(large[package], platform) >= needed(pin, platform), package


@pytest.mark.parametrize("name", ["docs", "extras"])
def test_environment_fits_into_that_of_developers(name):
    ours, others = locked(name), locked("dev")
    for package in ours.keys() & others.keys():
        assert ours[package].version == others[package].version, package


def test_docs_and_extras_fit_into_one_environment():
    docs, extras = locked("docs"), locked("extras")
    for package in docs.keys() & extras.keys():
        assert docs[package].version == extras[package].version, package


def test_torch_is_pinned_and_its_dependencies_are_locked():
    lines = (ENVS / "pytorch.txt").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if not line.startswith("#")]
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+", line), (
        "no local version: it depends on the machine"
    )


@pytest.mark.parametrize("name", ["worker", "workflow"])
def test_conda_environment_has_the_same_direct_dependencies(name):
    pins = locked(name)
    expected = {"python": "3.11", "pip": ""}
    for package, requirement in direct(name).items():
        expected[CONDA_NAMES.get(package, package)] = pins[package].version
        for extra in requirement.extras:
            brought = EXTRAS[f"{package}[{extra}]"]
            expected[brought] = pins[brought].version
    assert conda(name) == expected


@pytest.mark.parametrize("name", ["worker", "workflow"])
def test_conda_environment_uses_community_channels_only(name):
    data = yaml.safe_load((ENVS / f"{name}.yaml").read_text(encoding="utf-8"))
    assert data["name"] == f"palletfit-{name}"
    assert data["channels"] == ["conda-forge", "bioconda", "nodefaults"]


@pytest.mark.parametrize(
    ("name", "extras"),
    [
        ("worker", ["jax"]),
        ("workflow", ["jax", "workflow"]),
        ("clusters", ["jax", "workflow", "clusters"]),
        ("extras", ["tensorflow"]),
    ],
)
def test_pyproject_declares_the_same_dependencies(name, extras):
    wanted = declared(*extras)
    if name == "extras":
        wanted = {key: wanted[key] for key in wanted.keys() - declared().keys()}
        assert wanted.keys() <= direct(name).keys()
    else:
        assert wanted.keys() == direct(name).keys() - BUILD
    pins = locked(name)
    for package, requirement in wanted.items():
        assert pins[package].version in requirement.specifier, package
        assert requirement.extras == direct(name)[package].extras, package


def test_build_requirements_are_locked():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {Requirement(line).name for line in data["build-system"]["requires"]} == BUILD
    assert locked("worker").keys() >= BUILD


def test_pytorch_extra_is_the_pinned_torch():
    assert project()["optional-dependencies"]["pytorch"] == ["torch"]


def test_oldest_python_is_the_locked_one():
    assert project()["requires-python"] == f">={conda('worker')['python']}"


def imported_packages(path: Path) -> set[str]:
    """Packages outside the standard library that a source file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    outside = found - set(sys.stdlib_module_names) - {"palletfit"}
    return {MODULES.get(module, canonicalize_name(module)) for module in outside}


def test_source_imports_only_declared_dependencies_and_never_snakemake():
    every = declared(*project()["optional-dependencies"])
    for path in sorted((ROOT / "src").rglob("*.py")):
        imported = imported_packages(path)
        missing = imported - every.keys()
        assert not missing, f"{path.name} imports {missing}, which pyproject.toml does not declare"
        assert "snakemake" not in imported, f"{path.name} imports Snakemake"


def test_running_environment_is_the_locked_one():
    """Only where the environment was made from the locks, as `make` does."""
    if not (Path(sys.prefix) / ".installed-dev").exists():
        pytest.skip("this environment was not made by make")
    pins = locked("dev")
    installed = {package: Version(version(package)) for package in direct("dev")}
    assert installed == {package: Version(pins[package].version) for package in installed}
