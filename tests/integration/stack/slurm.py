"""A real Slurm on one host: a controller and several node daemons, private to one folder."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .processes import PATH, Program, free_ports, until

CONFIGURATION = """
ClusterName=stack
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
TmpFS={folder}/tmp
SlurmctldPidFile={folder}/slurmctld-own.pid
SlurmdPidFile={folder}/slurmd-%n-own.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0
ReturnToService=2
KillWait=2
MinJobAge=300
GresTypes=gpu
"""
NODE = (
    "NodeName={name} NodeAddr=127.0.0.1 NodeHostname={host} Port={port} "
    "CPUs=16 RealMemory=128000 Gres=gpu:1"
)
PARTITIONS = """
PartitionName=debug Nodes=ALL Default=YES MaxTime=60 State=UP
PartitionName=gpu-shared Nodes=ALL MaxTime=60 State=UP
PartitionName=short Nodes=ALL MaxTime=1 State=UP
"""


@dataclass(frozen=True)
class Job:
    """A line of squeue."""

    id: str
    name: str
    partition: str
    state: str
    nodes: str


class Slurm:
    """Partitions of nodes that claim 16 CPUs, 125 GB and a GPU each.

    `debug`; `short`, with jobs of one minute; and `gpu-shared`, which is Expanse's.
    """

    def __init__(self, folder: Path, count: int = 3) -> None:
        self.folder = folder
        self.nodes = [f"node{number}" for number in range(1, count + 1)]
        #: What a client of this Slurm needs in its environment.
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self._programs: list[Program] = []

    def start(self) -> None:
        """Start everything, and wait until all nodes are idle."""
        self._configure()
        self._run_in_background("munged", self._munged())
        socket_file = self.folder / "munge.socket"
        until(socket_file.exists, "munged has no socket", self.logs)
        self._run_in_background("slurmctld", ["slurmctld", "-D", "-i"])
        for node in self.nodes:
            self._run_in_background(f"slurmd-{node}", ["slurmd", "-D", "-N", node])
        until(self._all_idle, "not all nodes of Slurm are idle", self.logs)

    def stop(self) -> None:
        """End everything, running jobs included."""
        for program in self._programs:
            program.stop(at_once=True)
        self._programs.clear()

    @property
    def logs(self) -> list[Path]:
        return [program.log for program in self._programs]

    def squeue(self) -> list[Job]:
        """All pending and running jobs, the oldest first."""
        options = ["--noheader", "--sort=i", "--format=%i|%j|%P|%T|%N"]
        lines = self.run("squeue", *options).splitlines()
        return [Job(*line.split("|")) for line in lines]

    def cancel(self, job: str) -> None:
        """End a job as its owner or an administrator would."""
        self.run("scancel", job)

    def cancel_all(self) -> None:
        """End all jobs."""
        self.run("scancel", "--user=root")

    def expire(self, job: str) -> None:
        """Make a job's walltime end now; the controller looks twice a minute."""
        self.run("scontrol", "update", f"JobId={job}", "EndTime=now+1")

    def run(self, *command: str) -> str:
        """Run one of Slurm's commands, and give its output."""
        done = self._run(*command)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": PATH, **self.environment}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=30, check=False
        )

    def _all_idle(self) -> bool:
        done = self._run("sinfo", "--noheader", "--partition=debug", "--Node", "--format=%t")
        return done.stdout.split() == ["idle"] * len(self.nodes)

    def _run_in_background(self, name: str, command: Sequence[str | Path]) -> None:
        environment = {"PATH": PATH, **self.environment}
        log = self.folder / f"{name}.out"
        self._programs.append(Program(command, log, environment, folder=self.folder))

    def _munged(self) -> list[str | Path]:
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        files = {"key-file": key}
        for kind in ("socket", "pid-file", "log-file", "seed-file"):
            files[kind] = self.folder / f"munge.{kind.removesuffix('-file')}"
        # It would refuse a folder below one that others may not enter, as temporary folders are.
        options = [f"--{option}={file}" for option, file in files.items()]
        return ["munged", "--foreground", "--force", "--num-threads=2", *options]

    def _configure(self) -> None:
        host = socket.gethostname().split(".")[0]
        port, *ports = free_ports(1 + len(self.nodes))
        for node in self.nodes:
            (self.folder / "spool" / node).mkdir(parents=True)
        (self.folder / "state").mkdir()
        (self.folder / "tmp").mkdir()
        gpu = self.folder / "gpu"
        os.mknod(gpu, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        lines = [CONFIGURATION.format(host=host, port=port, folder=self.folder)]
        for node, node_port in zip(self.nodes, ports, strict=True):
            lines.append(NODE.format(name=node, host=host, port=node_port))
        (self.folder / "slurm.conf").write_text("\n".join([*lines, PARTITIONS]))
        (self.folder / "gres.conf").write_text(
            f"NodeName={','.join(self.nodes)} Name=gpu File={gpu}\n"
        )
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
