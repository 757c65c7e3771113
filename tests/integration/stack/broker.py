"""A real RabbitMQ on one host, private to one folder."""

from __future__ import annotations

import secrets
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from .processes import PATH, Program, free_ports, until

#: The Debian package's own script; the one on the path changes the user.
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
CONTROL = SERVER.with_name("rabbitmqctl")
CONFIGURATION = """
listeners.tcp.1 = 127.0.0.1:{port}
default_user = stack
default_pass = {password}
log.file.level = warning
log.console = false
disk_free_limit.absolute = 1MB
"""


def connect(url: str) -> pika.BlockingConnection:
    """Connect to a broker.

    Raises:
        pika.exceptions.AMQPConnectionError: it cannot be reached, also if it ends while it greets:
            pika raises an exception of another family then.
    """
    try:
        return pika.BlockingConnection(pika.URLParameters(url))
    except AMQPConnectorException as problem:
        raise pika.exceptions.AMQPConnectionError(str(problem)) from problem


class Broker:
    """A broker whose durable queues outlive a restart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, distribution, names = free_ports(3)
        self._password = secrets.token_hex(16)
        self._program: Program | None = None
        self._environment = {
            "PATH": PATH,
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(names),
            "RABBITMQ_NODENAME": f"stack{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "rabbitmq-own.pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    @property
    def url(self) -> str:
        """Where clients connect, with the password."""
        return f"amqp://stack:{self._password}@127.0.0.1:{self.port}/%2F"

    @property
    def logs(self) -> list[Path]:
        return [self.folder / "rabbitmq.out", *self.folder.glob("log/*.log")]

    def start(self) -> None:
        """Start the broker; wait() tells when it is ready."""
        configuration = self.folder / "rabbitmq.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(CONFIGURATION.format(port=self.port, password=self._password))
        (self.folder / "plugins").write_text("[].\n")
        log = self.folder / "rabbitmq.out"
        self._program = Program([SERVER], log, self._environment, folder=self.folder, grace=120)

    def wait(self) -> None:
        """Wait until a client can connect."""
        until(self._accepts, "RabbitMQ takes no connection", self.logs)

    def stop(self, *, at_once: bool = True) -> None:
        """End the broker; what is durable survives only an end that is not at once."""
        if self._program is not None:
            self._program.stop(at_once=at_once)
            self._program = None

    def restart(self) -> None:
        """End the broker as an administrator would, and start it again."""
        self.stop(at_once=False)
        self.start()
        self.wait()

    def unacknowledged(self, ending: str) -> int:
        """Count messages of queues whose names end so: those that wait, and those on their way.

        A message that was not acknowledged before a restart is delivered a second time.
        """
        command = [CONTROL, "--quiet", "list_queues", "name", "messages", "--no-table-headers"]
        answer = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=True
        )
        rows = [line.split("\t") for line in answer.stdout.splitlines()]
        return sum(int(count) for name, count in rows if name.endswith(ending))

    def _accepts(self) -> bool:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            with suppress(pika.exceptions.AMQPError):
                connect(self.url).close()
                return True
        return False
