"""Profiles: what Snakemake, the endpoint of each site, and the site's scheduler read in them."""

from __future__ import annotations

import json
import os
import pwd
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
import yaml

from palletfit import config as palletfit_config
from palletfit.executors.globus import endpoint as palletfit_endpoint

ROOT = Path(__file__).parents[3]
PROFILES = sorted(path.parent for path in ROOT.glob("profiles/*/profile.yaml"))
ENDPOINTS = sorted(path.parent for path in ROOT.glob("profiles/*/endpoint*/config.yaml"))
TEMPLATE, SCHEMA = "user_config_template.yaml.j2", "user_config_schema.json"
ENVIRONMENT = "/opt/palletfit/.venv-endpoint"
#: What a client's SDK says about itself.
RUNTIME = {
    "globus_compute_sdk_version": "4.19.0",
    "python": {"version": "3.11.2", "version_tuple": [3, 11, 2], "compiler": 'GCC "12"'},
}

SLURM = {
    "account": "abc-123_x.y",
    "partition": "gpu,shared",
    "walltime": "48:30:00",
    "max_blocks": 2,
    "gpus": 4,
    "cores": 6,
    "memory": 7,
    "interface": "eth0.12",
    "heartbeat_threshold": 20,
    "heartbeat_period": 5,
    "environment": "/home/me/env-1.2",
}
TORQUE = {
    "account": "abc",
    "queue": "high",
    "node_type": "xe",
    "launcher": "SimpleLauncher",
    "walltime": "02:00:30",
    "max_blocks": 1,
    "cores": 32,
    "interface": "ipogif0",
    "heartbeat_threshold": 20,
    "heartbeat_period": 5,
    "environment": "/home/me/env",
}
PODS = {
    "image": "registry.example:5000/me/palletfit:0.2.0",
    "kube_namespace": "fits-2",
    "workers": 5,
    "memory": 11,
    "max_blocks": 9,
    "interface": "eth0",
    "heartbeat_threshold": 20,
    "heartbeat_period": 5,
}
SLOTS = {
    "workers": 2,
    "memory": 3,
    "walltime": "00:30:05",
    "max_blocks": 9,
    "interface": "eth0",
    "heartbeat_threshold": 20,
    "heartbeat_period": 5,
    "environment": "/home/me/env",
}
#: A value for everything that a site's `endpoint_config` may hold.
VALUES: dict[str, dict[str, Any]] = {
    "expanse/endpoint": SLURM,
    "delta/endpoint": SLURM,
    "bluewaters/endpoint": TORQUE,
    "river/endpoint": PODS,
    "river/endpoint-condor": SLOTS,
    "gke/endpoint": PODS,
}


def utils() -> Any:
    """What endpoints read their files with; collecting tests does not take a second for it."""
    return pytest.importorskip("globus_compute_endpoint.endpoint.config.utils")


def name(path: Path) -> str:
    """Of a profile or of its endpoint, as in VALUES."""
    return path.relative_to(ROOT / "profiles").as_posix()


def schema(folder: Path) -> dict[str, Any]:
    return utils().load_user_config_schema(folder / SCHEMA)


def required(folder: Path) -> dict[str, Any]:
    """The fewest values that a client has to give."""
    return {key: VALUES[name(folder)][key] for key in schema(folder).get("required", [])}


def render(folder: Path, values: dict[str, Any]) -> str:
    """The configuration of a user endpoint, as the endpoint itself makes it."""
    me = SimpleNamespace(local_user_record=pwd.getpwuid(os.getuid()), matched_identity="me")
    return utils().render_config_user_template(
        utils().get_config(folder),
        utils().load_user_config_template(folder / TEMPLATE),
        folder / TEMPLATE,
        me,
        schema(folder),
        values,
        RUNTIME,
    )


@contextmanager
def loaded(folder: Path, values: dict[str, Any]) -> Iterator[Any]:
    """The endpoint's own model of that configuration."""
    model = utils().load_config_yaml(render(folder, values))
    try:
        yield model
    finally:
        model.engine.shutdown()


class Site:
    """Takes the place of schedulers and networks, and keeps what was submitted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands: list[str] = []
        self.pods: list[tuple[str, Any]] = []

    def execute(self, command: str, _timeout: float | None = None) -> Any:
        """What schedulers' programs would answer."""
        program = command.split()[0]
        if program == "sacct":
            return 1, "", "Slurm accounting storage is disabled"
        self.commands.append(command)
        words = {
            "sbatch": "Submitted batch job 7",
            "qsub": "7.master",
            "condor_submit": "Submitting job(s).\n1 job(s) submitted to cluster 7.",
        }
        return 0, words[program], ""

    def create_namespaced_pod(self, namespace: str, body: Any) -> Any:
        """Take a pod, as the interface of Kubernetes would."""
        self.pods.append((namespace, body))
        return SimpleNamespace(status="Pending")

    def submit(self, engine: Any) -> None:
        """Let Parsl ask for one block."""
        executor, place = engine.executor, str(self.folder)
        executor.provider.script_dir = executor.run_dir = place
        # What starting the executor, and its processes, would add.
        executor.logconf_path = f"{place}/logging.json"
        executor.cert_dir = f"{place}/keys" if executor.encrypted else None
        executor.initialize_scaling()
        executor.provider.submit(executor.launch_cmd.format(block_id="0"), 1, "palletfit")

    @property
    def command(self) -> str:
        """The one command, with the script's path left out."""
        (command,) = self.commands
        return " ".join(command.replace(str(self.folder), "").split()[:-1])

    def script(self, suffix: str = "") -> list[str]:
        """Lines of the script that was submitted."""
        (file,) = (file for file in self.folder.iterdir() if file.suffix == suffix or not suffix)
        return file.read_text().splitlines()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    from parsl.providers.cluster_provider import ClusterProvider
    from parsl.providers.kubernetes import kube

    found = Site(tmp_path)
    monkeypatch.setattr(ClusterProvider, "execute_wait", found.execute)
    monkeypatch.setattr(kube, "_kubernetes_enabled", True)
    monkeypatch.setattr(kube, "config", SimpleNamespace(load_kube_config=lambda: None), False)
    monkeypatch.setattr(kube, "client", KubernetesModels(found), False)
    monkeypatch.setattr("parsl.addresses.address_by_interface", lambda ifname: f"by-{ifname}")
    monkeypatch.setattr("parsl.addresses.address_by_hostname", lambda: "by-hostname")
    monkeypatch.setattr("parsl.addresses.address_by_route", lambda: "by-route")
    monkeypatch.setenv("PALLETFIT_ENV", ENVIRONMENT)
    return found


class KubernetesModels:
    """The package kubernetes.client: every model keeps what it is made with."""

    def __init__(self, interface: Site) -> None:
        self.interface = interface

    def __getattr__(self, model: str) -> Callable[..., Any]:
        if model == "CoreV1Api":
            return lambda: self.interface
        return SimpleNamespace


# -- what Snakemake and the client read


@pytest.mark.parametrize("folder", PROFILES, ids=name)
def test_a_profile_has_only_arguments_of_snakemake_and_files_that_exist(folder):
    from snakemake.cli import get_argument_parser

    options = {
        option for action in get_argument_parser()._actions for option in action.option_strings
    }
    profile = yaml.safe_load((folder / "profile.yaml").read_text())
    assert {f"--{key}" for key in profile} <= options
    assert (folder / profile.get("configfile", "profile.yaml")).is_file()


@pytest.mark.parametrize(
    "folder", [folder for folder in PROFILES if (folder / "executor.yaml").exists()], ids=name
)
def test_an_executor_is_configured_as_palletfit_expects(folder, monkeypatch):
    monkeypatch.setenv("PALLETFIT_ENDPOINT", "11111111-2222-3333-4444-555555555555")
    file = folder / "executor.yaml"
    data = yaml.safe_load(file.read_text())
    settings = palletfit_config.parse(palletfit_config.Settings, data, file=file)
    assert settings.executor.kind != "globus-compute" or (folder / "endpoint").is_dir()
    # A profile decides where fits run, not what is fitted.
    assert data.keys() <= {"fit", "executor"}
    assert data.get("fit", {}).keys() <= {"backend"}


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("folder", ENDPOINTS, ids=name)
def test_client_and_endpoint_agree(folder):
    settings = yaml.safe_load((folder.parent / "executor.yaml").read_text())
    asked = settings["executor"]["endpoint_config"]
    if folder.name == "endpoint":
        assert asked.keys() == set(schema(folder).get("required", []))
        # What is only yours to know is empty, and refused as long as it is.
        with pytest.raises(jsonschema.ValidationError):
            render(folder, asked)
    with loaded(folder, required(folder)) as model:
        engine = model.engine
        workers = engine.provider.max_blocks * engine.max_workers_per_node
        assert settings["executor"]["workers"] == workers
        assert bool(engine.executor.available_accelerators) is (settings["fit"]["backend"] == "jax")


@pytest.mark.parametrize("folder", ENDPOINTS, ids=name)
def test_requirements_exist_and_serve_the_backend(folder):
    settings = yaml.safe_load((folder.parent / "executor.yaml").read_text())
    file = folder / "requirements.txt"
    lines = file.read_text().splitlines() if file.exists() else ["-r ../../../envs/endpoint.txt"]
    included = [line.removeprefix("-r ") for line in lines if line.startswith("-r ")]
    assert all((folder / path).is_file() for path in included)
    cuda = any(path.endswith("endpoint-cuda.txt") for path in included)
    assert cuda is (settings["fit"]["backend"] == "jax")
    kubernetes = any(path.endswith("kubernetes.txt") for path in included)
    assert kubernetes is ("KubernetesProvider" in (folder / TEMPLATE).read_text())


# -- what the endpoint reads


def test_every_endpoint_is_known_to_these_tests():
    assert {name(folder) for folder in ENDPOINTS} == set(VALUES)
    for folder in ENDPOINTS:
        assert VALUES[name(folder)].keys() == schema(folder)["properties"].keys()


@pytest.mark.parametrize("folder", ENDPOINTS, ids=name)
def test_the_endpoint_loads_its_own_configuration(folder):
    model = utils().get_config(folder)
    # With an engine it would be one of old, which no longer starts.
    assert type(model).__name__ == "CoreEndpointConfig"
    assert model.display_name.startswith("palletfit on ")
    variables = folder / "user_environment.yaml"
    if variables.exists():
        assert all(
            isinstance(value, str) for value in yaml.safe_load(variables.read_text()).values()
        )


@pytest.mark.parametrize("folder", ENDPOINTS, ids=name)
def test_a_schema_restricts_every_value(folder):
    known = schema(folder)
    jsonschema.Draft202012Validator.check_schema(known)
    assert known["additionalProperties"] is False
    for key, rule in known["properties"].items():
        assert "enum" in rule or rule["type"] == "integer" or "pattern" in rule, key


def with_strings() -> list[Any]:
    return [
        pytest.param(folder, key, id=f"{name(folder)}-{key}")
        for folder in ENDPOINTS
        for key, value in VALUES[name(folder)].items()
        if isinstance(value, str)
    ]


@pytest.mark.parametrize(("folder", "key"), with_strings())
def test_nothing_can_be_injected(folder, key):
    values, known = VALUES[name(folder)], jsonschema.Draft202012Validator(schema(folder))
    utils()._validate_user_opts(values, known.schema)
    ends = [
        "; rm -rf", "\n", "\n#SBATCH --uid=0", "\r", "'", '"', "\\", "`id`", "$(id)", "$HOME",
        " -x", "\t", "#", "&", "|", ">x", "*", "{{ 7 * 7 }}", "{% x %}", "\x00", "\u2028", "é",
    ]  # fmt: skip
    wrong = [*(values[key] + end for end in ends), "", "-x", "\n" + values[key], 7, None, True]
    for value in wrong:
        assert not known.is_valid({**values, key: value}), value
    with pytest.raises(jsonschema.ValidationError):
        render(folder, {**values, key: f"{values[key]}\n"})


@pytest.mark.parametrize("folder", ENDPOINTS, ids=name)
@pytest.mark.parametrize("extra", ["worker_init", "scheduler_options", "user_runtime", "_GC"])
def test_nothing_else_can_be_given(folder, extra):
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        render(folder, {**required(folder), extra: "x"})


@pytest.mark.parametrize(
    ("walltime", "allowed"),
    [
        ("01:00:00", True),
        ("00:30:00", True),
        ("00:00:00", False),
        ("0:00:59", False),
        ("1-00:00:00", False),
        ("60", False),
        ("01:60:00", False),
    ],
)
@pytest.mark.parametrize(
    "folder", [folder for folder in ENDPOINTS if "walltime" in VALUES[name(folder)]], ids=name
)
def test_walltimes_are_those_that_parsl_understands(folder, walltime, allowed):
    rule = schema(folder)["properties"]["walltime"]
    assert jsonschema.Draft202012Validator(rule).is_valid(walltime) is allowed


def allowed_values() -> list[Any]:
    """Defaults, all values, and the ends and choices of all values, as few at a time as needed."""
    cases = []
    for folder in ENDPOINTS:
        rules = json.loads((folder / SCHEMA).read_text())["properties"]
        choices = {key: rule["enum"] for key, rule in rules.items() if "enum" in rule}
        for key, rule in rules.items():
            ends = [rule[end] for end in ("minimum", "maximum") if end in rule]
            choices |= {key: ends} if ends else {}
        cases += [
            pytest.param(
                folder,
                {key: values[number % len(values)] for key, values in choices.items()},
                id=f"{name(folder)}-{number}",
            )
            for number in range(max(map(len, choices.values())))
        ]
        cases += [
            pytest.param(folder, {}, id=f"{name(folder)}-defaults"),
            pytest.param(folder, VALUES[name(folder)], id=f"{name(folder)}-all"),
        ]
    return cases


@pytest.mark.parametrize(("folder", "values"), allowed_values())
def test_every_allowed_value_gives_a_configuration(folder, values, site):
    with loaded(folder, {**required(folder), **values}) as model:
        assert type(model).__name__ == "UserEndpointConfig"
        engine = model.engine
        site.submit(engine)
        assert len(site.commands) + len(site.pods) == 1
        assert engine.provider.init_blocks == engine.provider.min_blocks == 0
        assert engine.provider.nodes_per_block == 1
        assert engine.max_retries_on_system_failure == 0
        assert engine.executor.max_workers_per_node == values.get(
            "gpus", values.get("workers", engine.max_workers_per_node)
        )
        assert 0 < model.idle_heartbeats_soft < model.idle_heartbeats_hard
        assert engine.executor.heartbeat_threshold == values.get(
            "heartbeat_threshold", engine.executor.heartbeat_threshold
        )


def test_an_endpoint_finds_the_programs_of_its_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("GLOBUS_COMPUTE_USER_DIR", str(tmp_path))
    monkeypatch.setattr(
        palletfit_endpoint, "_configure", lambda endpoint: (tmp_path / endpoint).mkdir()
    )
    for folder in ENDPOINTS:
        installed = palletfit_endpoint.install(folder, name(folder).replace("/", "-"))
        variables = yaml.safe_load((installed / "user_environment.yaml").read_text())
        first, *others = variables["PATH"].split(":")
        assert (Path(first) / "globus-compute-endpoint").exists()
        assert "/usr/bin" in others
        assert (installed / TEMPLATE).read_text() == (folder / TEMPLATE).read_text()


# -- what the site's scheduler reads


def launch(workers: int, gpus: int = 0, *, address: str, encrypted: bool) -> re.Pattern[str]:
    """The command of a block's workers."""
    devices = " ".join(map(str, range(gpus)))
    keys = r"\S+" if encrypted else "None"
    return re.compile(
        r"globus-compute-endpoint python-exec parsl\.executors\.high_throughput"
        rf"\.process_worker_pool +--max_workers_per_node={workers} -a {address} .*"
        rf"--cert_dir {keys} .*--block_id=0 .*--available-accelerators *{devices} *$"
    )


def options(lines: list[str], mark: str) -> list[str]:
    """Lines for the scheduler, but names that change."""
    return [
        line for line in lines if line.startswith(mark) and "/" not in line and "-name" not in line
    ]


@pytest.mark.parametrize(
    ("folder", "values", "expected"),
    [
        (
            "expanse",
            {"account": "abc123"},
            "--gpus=1 --partition=gpu-shared --account=abc123 --mem=92g --cpus-per-task=10",
        ),
        (
            "expanse",
            SLURM,
            "--gpus=4 --partition=gpu,shared --account=abc-123_x.y --mem=7g --cpus-per-task=6",
        ),
        (
            "delta",
            {"account": "bbxx-delta-gpu"},
            (
                "--partition=gpuA100x4 --account=bbxx-delta-gpu --gpus-per-node=1"
                " --mem=60g --cpus-per-task=16"
            ),
        ),
        (
            "delta",
            {"account": "bbxx-delta-gpu", "partition": "gpuA40x4", "gpus": 2},
            (
                "--partition=gpuA40x4 --account=bbxx-delta-gpu --gpus-per-node=2"
                " --mem=120g --cpus-per-task=32"
            ),
        ),
    ],
)
def test_slurm_is_asked_for(folder, values, expected, site):
    gpus = values.get("gpus", 1)
    ifname = values.get("interface", {"expanse": "ib0", "delta": "eth6.560"}[folder])
    minutes = 48 * 60 + 30 if "walltime" in values else 60
    with loaded(ROOT / "profiles" / folder / "endpoint", values) as model:
        site.submit(model.engine)
    assert site.command == "sbatch"
    script = site.script()
    expected = ["--nodes=1", f"--time={minutes}", "--ntasks-per-node=1", *expected.split()]
    assert options(script, "#SBATCH") == [f"#SBATCH {option}" for option in expected]
    environment = values.get("environment", ENVIRONMENT)
    activate, *_, command = [line for line in script if line and not line.startswith("#")]
    assert activate == f'source "{environment}/bin/activate"'
    address = f"by-{re.escape(ifname)}"
    assert launch(gpus, gpus, address=address, encrypted=True).match(command)
    # Slurm reads no options below the first command.
    assert max(i for i, line in enumerate(script) if line.startswith("#SBATCH")) < script.index(
        activate
    )


def test_torque_is_asked_for_a_node_with_a_gpu(site):
    with loaded(ROOT / "profiles/bluewaters/endpoint", {"account": "abc"}) as model:
        site.submit(model.engine)
    assert site.command == "qsub -q normal -l nodes=1:ppn=16:xk -A abc"
    script = site.script(".submit")
    assert [line for line in options(script, "#PBS") if " -N " not in line] == [
        "#PBS -V",
        "#PBS -m n",
        "#PBS -l walltime=01:00:00",
        "#PBS -l nodes=1:ppn=1",
    ]
    assert f'source "{ENVIRONMENT}/bin/activate"' in script
    (aprun,) = (line for line in script if line.startswith("aprun"))
    assert aprun.startswith("aprun -n 1 -N 1 -b -d 16 -cc none /bin/bash ")
    (command,) = (line for line in script if "process_worker_pool" in line)
    assert launch(1, 1, address="by-hostname", encrypted=True).match(command)


@pytest.mark.parametrize(
    ("kind", "nodes"), [("xe", "nodes=1:ppn=32:xe"), ("any", "nodes=1:ppn=32")]
)
def test_torque_is_asked_without_aprun(kind, nodes, site):
    with loaded(ROOT / "profiles/bluewaters/endpoint", {**TORQUE, "node_type": kind}) as model:
        site.submit(model.engine)
    assert site.command == f"qsub -q high -l {nodes} -A abc"
    script = site.script(".submit")
    assert "#PBS -l walltime=02:00:30" in script
    assert not any("aprun" in line for line in script)
    assert 'source "/home/me/env/bin/activate"' in script
    assert any(launch(1, 1, address="by-ipogif0", encrypted=True).match(line) for line in script)


@pytest.mark.parametrize(
    ("values", "seconds", "workers", "memory", "address"),
    [({}, 7200, 8, 16, "by-hostname"), (SLOTS, 1805, 2, 3, "by-eth0")],
)
def test_htcondor_is_asked_for_slots(values, seconds, workers, memory, address, site):
    with loaded(ROOT / "profiles/river/endpoint-condor", values) as model:
        site.submit(model.engine)
    assert site.command == "condor_submit"
    described = dict(
        (part.strip() for part in line.split("=", 1))
        for line in site.script(".submit")
        if "=" in line
    )
    assert described["universe"] == "vanilla"
    assert described["executable"] == "/bin/bash"
    assert described["RequestCpus"] == str(workers)
    assert described["RequestMemory"] == str(memory * 1024)
    assert described["periodic_remove"] == (
        f"(JobStatus == 2) && ((time() - EnteredCurrentStatus) > {seconds})"
    )
    # The last of two counts.
    assert described["leave_in_queue"].endswith("((time() - EnteredCurrentStatus) < 3600)")
    script = site.script(".script")
    environment = values.get("environment", ENVIRONMENT)
    assert script[0] == "export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1"
    assert script[1] == f'source "{environment}/bin/activate"'
    assert launch(workers, address=address, encrypted=False).match(script[-1])
    assert "--logdir=/tmp/river-condor-HighThroughputExecutor " in script[-1]


@pytest.mark.parametrize(
    ("folder", "values", "namespace", "workers", "memory", "address"),
    [
        ("river", {"image": "me/palletfit:1"}, "palletfit", 8, "16Gi", "by-route"),
        ("gke", {"image": "me/palletfit:1"}, "palletfit", 3, "6Gi", "by-hostname"),
        ("river", PODS, "fits-2", 5, "11Gi", "by-eth0"),
        ("gke", PODS, "fits-2", 5, "11Gi", "by-eth0"),
    ],
)
def test_kubernetes_is_asked_for_pods(folder, values, namespace, workers, memory, address, site):
    with loaded(ROOT / "profiles" / folder / "endpoint", values) as model:
        site.submit(model.engine)
    ((asked, pod),) = site.pods
    assert asked == namespace
    assert re.fullmatch(r"palletfit\.[0-9a-f]{8}", pod.metadata.name)
    (container,) = pod.spec.containers
    assert container.image == values["image"]
    amounts = {"cpu": f"{workers}", "memory": memory}
    numbers = container.resources
    assert numbers.requests == numbers.limits == amounts
    assert container.command == ["/bin/bash"]
    option, script = container.args
    assert option == "-c"
    first, *_, last = script.strip().splitlines()
    assert first == "export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1"
    assert launch(workers, address=address, encrypted=False).match(last)
    assert f"--logdir=/tmp/{folder}-HighThroughputExecutor " in last


@pytest.mark.usefixtures("site")
def test_the_quota_on_google_cloud_holds_all_pods():
    parts = list(yaml.safe_load_all((ROOT / "profiles/gke/cluster.yaml").read_text()))
    of_kind = {part["kind"]: part for part in parts}
    with loaded(ROOT / "profiles/gke/endpoint", {"image": "me/palletfit:1"}) as model:
        provider = model.engine.provider
    endpoint = of_kind["Deployment"]["spec"]["template"]["spec"]["containers"][0]["resources"]
    quota = of_kind["ResourceQuota"]["spec"]["hard"]
    assert int(quota["pods"]) == provider.max_blocks + 1
    cpu = provider.max_blocks * provider.max_cpu + int(endpoint["limits"]["cpu"])
    assert int(quota["limits.cpu"]) == cpu
    memory = provider.max_blocks * int(provider.max_mem.removesuffix("Gi"))
    memory += int(endpoint["limits"]["memory"].removesuffix("Gi"))
    assert quota["limits.memory"] == f"{memory}Gi"
    assert {part["metadata"].get("namespace", "palletfit") for part in parts} == {"palletfit"}
    assert provider.namespace == "palletfit"


def test_the_image_holds_what_exists():
    text = (ROOT / "profiles/gke/Dockerfile").read_text()
    for sources in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / source).exists() for source in sources.split())
    requirements = (ROOT / "profiles/gke/endpoint/requirements.txt").read_text()
    (lock,) = re.findall(r"^-r \.\./\.\./\.\./(\S+)$", requirements, re.MULTILINE)
    assert f"COPY {lock} " in text


def test_schemas_are_written_alike():
    for folder in ENDPOINTS:
        for key, rule in schema(folder)["properties"].items():
            if "pattern" in rule:
                # A bare $ would let a line break through at the end.
                assert rule["pattern"].startswith("^"), key
                assert rule["pattern"].endswith("$(?!\\n)"), key
    assert json.loads((ROOT / "profiles/gke/endpoint" / SCHEMA).read_text()) == schema(
        ROOT / "profiles/river/endpoint"
    )
