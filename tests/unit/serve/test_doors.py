"""Ways to the service, its end, and the clients that docs/serve.md shows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import palletfit
from palletfit.errors import ConfigError
from palletfit.pallet.demo import demo_workspace
from palletfit.serve.batching import Batcher
from palletfit.serve.connections import Bounds, Service
from palletfit.serve.doors import Doors, run

from ...waiting import LIMIT
from .. import models
from .test_connections import Caller, Workers, until

PAGE = Path(__file__).parents[3] / "docs" / "serve.md"
SIGNAL = {"SR_high": [0.2, 0.9, 2.4]}


def command(demo_file: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "palletfit.cli", "serve", f"demo={demo_file}", *words]


@pytest.fixture(scope="module")
def expected() -> float:
    return palletfit.hypotest(demo_workspace(), signal=SIGNAL).only.p_values.CLs_obs


@pytest.fixture(scope="module")
def folder(demo_file, tmp_path_factory) -> Iterator[Path]:
    """A folder with the socket of a running service; it ends without an error."""
    folder = tmp_path_factory.mktemp("service")
    process = subprocess.Popen(
        command(demo_file, "--socket", "service.sock", "--port", "0"),
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = [process.stderr.readline() for _ in range(2)]
    try:
        assert lines[0] == "listening at service.sock\n"
        assert re.fullmatch(r"listening at 127\.0\.0\.1 port \d+\n", lines[1])
        (folder / "port").write_text(lines[1].split()[-1])
        yield folder
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=LIMIT)
    assert (process.returncode, rest) == (0, "")
    assert not (folder / "service.sock").exists()


def block(language: str) -> str:
    (text,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return text


def test_the_client_in_python(folder, expected, monkeypatch, capsys) -> None:
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(block("python"), names)  # noqa: S102
    service = names["service"]
    with contextlib.closing(service.socket), contextlib.closing(service.lines):
        assert float(capsys.readouterr().out) == pytest.approx(expected, rel=1e-7)
        with pytest.raises(ValueError, match="no workspace 'dem'"):
            service.ask(workspace="dem", signal=SIGNAL)


def test_the_client_in_cpp(folder, expected, tmp_path) -> None:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs a compiler of C++")
    source, program = tmp_path / "client.cpp", tmp_path / "client"
    source.write_text(block("cpp"), encoding="utf-8")
    words = [compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", source, "-o", program]
    subprocess.run(words, check=True)
    written = subprocess.run([program], cwd=folder, check=True, capture_output=True, text=True)
    assert float(written.stdout) == pytest.approx(expected, rel=1e-5)


def test_a_port_of_this_machine(folder) -> None:
    port = int((folder / "port").read_text())
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as connection:
        connection.sendall(b'{"ask": "status"}\n')
        assert b'"models": {"demo": ' in connection.recv(65536)


def test_only_the_user_may_open_the_socket_and_a_second_service_may_not(folder, demo) -> None:
    path = folder / "service.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match="listens at this path already"):
        asyncio.run(run(make(demo, Workers()), Doors(socket=path), say=str))
    assert path.exists()


def test_standard_streams_that_are_files(tmp_path) -> None:
    workspace = models.background("normfactor", "normsys")
    (tmp_path / "model.json").write_text(json.dumps(workspace))
    signal = {"SR": [4.0, 6.0]}
    requests = [{"id": 1, "signal": signal}, {"id": 2, "signal": {"SRA": [1]}}, {"ask": "status"}]
    text = "\n".join([*map(json.dumps, requests), "nonsense"])
    (tmp_path / "in").write_text(text)
    words = command(tmp_path / "model.json")
    with (tmp_path / "in").open() as source, (tmp_path / "out").open("w") as target:
        done = subprocess.run(
            words, stdin=source, stdout=target, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")
    answers = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    by_id = {answer["id"]: answer for answer in answers}
    assert len(answers) == 4
    expected = palletfit.hypotest(workspace, signal=signal).only.p_values.CLs_obs
    assert by_id[1]["CLs_obs"] == pytest.approx(expected, rel=1e-7)
    assert by_id[2]["error"].startswith("The workspace has no channel 'SRA'")


def test_a_closed_standard_input_is_the_end(demo_file) -> None:
    program = "import os, sys; os.close(0); os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", program, *command(demo_file)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_standard_output_is_refused(demo, monkeypatch) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)
    with pytest.raises(ConfigError, match="The standard output, to which answers go, is closed"):
        asyncio.run(run(make(demo, Workers()), Doors(), say=str))


# --------------------------------------------------------------------------- its end


def make(demo: Any, workers: Workers, **bounds: Any) -> Service:
    return Service(demo, Batcher(workers, workers=1), Bounds(**bounds))


def served(service: Service, doors: Doors, scenario: Coroutine[Any, Any, None]) -> int:
    """Serve in this process, while a scenario happens; return the number of dropped requests."""

    async def main() -> int:
        happening = asyncio.create_task(scenario)
        async with asyncio.timeout(LIMIT):
            dropped = await run(service, doors, say=lambda _: None)
            await happening
        return dropped

    return asyncio.run(main())


async def connect(path: Path) -> Caller:
    async with asyncio.timeout(LIMIT):
        while True:
            with contextlib.suppress(OSError):
                return Caller(*await asyncio.open_unix_connection(path))
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_accepted_points_finish(kind, demo, tmp_path) -> None:
    workers = Workers(held=True)
    service = None

    async def scenario() -> None:
        caller = await connect(tmp_path / "s")
        caller.send(id=1, signal="accepted")
        await until(lambda: workers.waiting != [])
        os.kill(os.getpid(), kind)
        await asyncio.sleep(0.01)
        caller.send(id=2, signal="late")
        workers.release()
        assert (await caller.line())["status"] == "ok"
        assert await caller.reader.read() == b""
        caller.writer.close()

    # What is left of a service that was killed is in nobody's way.
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "s"))
    service = make(demo, workers)
    assert served(service, Doors(socket=tmp_path / "s"), scenario()) == 0
    assert not (tmp_path / "s").exists()


def test_a_second_signal_drops_what_is_left_and_says_so(demo, tmp_path) -> None:
    workers = Workers(held=True)

    async def scenario() -> None:
        caller = await connect(tmp_path / "s")
        for number in range(3):
            caller.send(id=number, signal="accepted")
        await until(lambda: service.accepted == 3)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.02)
        answers = await caller.rest()
        assert [answer["type"] for answer in answers] == ["DroppedError"] * 3
        caller.writer.close()

    service = make(demo, workers)
    began = time.monotonic()
    assert served(service, Doors(socket=tmp_path / "s"), scenario()) == 3
    assert time.monotonic() - began < LIMIT


@pytest.mark.parametrize(
    ("doors", "beyond"),
    [
        (Doors(), False),
        (Doors(port=1), False),
        (Doors(port=1, host="::1"), False),
        (Doors(port=1, host="localhost"), False),
        (Doors(port=1, host="0.0.0.0"), True),  # noqa: S104
        (Doors(port=1, host="192.0.2.1"), True),
        (Doors(port=1, host="example.org"), True),
    ],
)
def test_addresses_that_other_machines_reach(doors, beyond) -> None:
    assert doors.beyond_loopback is beyond


def test_paths_and_ports_that_cannot_be_opened(demo, tmp_path) -> None:
    (tmp_path / "file").write_text("content")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wrong = [
            (Doors(socket=tmp_path / "file"), "a file at the path"),
            (Doors(socket=tmp_path / "none" / "s"), "cannot listen at"),
            (Doors(socket=tmp_path / ("long" * 40)), "cannot listen at"),
            (Doors(port=taken.getsockname()[1]), "cannot listen at"),
            (Doors(port=0, host="192.0.2.1"), "cannot listen at"),
        ]
        for doors, words in wrong:
            with pytest.raises(ConfigError, match=words):
                asyncio.run(run(make(demo, Workers()), doors, say=str))
    assert (tmp_path / "file").read_text() == "content"
