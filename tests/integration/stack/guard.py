"""Runs one program and ends everything that came of it; a script for a process of its own.

    python guard.py OWNER PIDFILE GRACE COMMAND...

Daemons leave their process group and their session, but not their subreaper: whatever the program
leaves behind becomes a child of this process, and is ended with it. It ends on SIGTERM (the program
gets GRACE seconds to end by itself), on SIGHUP (at once), when the process OWNER is gone (at once),
and with the program (what that leaves behind gets GRACE seconds).
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
TOLD = {signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD}


def main() -> int:
    owner, pid_file, grace = int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())

    try:
        watched = os.pidfd_open(owner)
    except ProcessLookupError:
        return 0
    program = subprocess.Popen(
        sys.argv[4:], preexec_fn=prepare, start_new_session=True, stdin=subprocess.DEVNULL
    )
    pid_file.write_text(str(program.pid))
    end = wait(watched, program.pid)
    if end == signal.SIGTERM:
        program.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while program.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    if end == 0:
        program.wait()
        deadline = time.monotonic() + grace
        while descendants(os.getpid()) and time.monotonic() < deadline:
            told = signal.sigtimedwait({signal.SIGTERM, signal.SIGHUP}, 0.1)
            if told or gone(watched):
                break
            reap(program)
    while running := descendants(os.getpid()):
        for pid in running:
            signal_quietly(pid, signal.SIGKILL)
        reap(program)
        time.sleep(0.01)
    code = program.returncode or 0
    return 128 - code if code < 0 else code


def wait(owner: int, program: int) -> int:
    """The reason to end: a signal, or 0 when the program has ended; reaps orphans meanwhile."""
    while True:
        # Its children's ends are signals; only the owner has to be looked for.
        told = signal.sigtimedwait(TOLD, 1.0)
        if told and told.si_signo != signal.SIGCHLD:
            return told.si_signo
        if gone(owner):
            return signal.SIGHUP
        for pid in children(os.getpid()):
            if state(pid) == "Z":
                if pid == program:
                    return 0
                os.waitpid(pid, os.WNOHANG)


def gone(process: int) -> bool:
    """Whether the process of a descriptor has ended."""
    return bool(select.select([process], [], [], 0)[0])


def reap(program: subprocess.Popen[bytes]) -> None:
    program.poll()
    for pid in children(os.getpid()):
        if state(pid) == "Z":
            os.waitpid(pid, os.WNOHANG)


def descendants(pid: int) -> list[int]:
    """All processes below one, dead ones that nobody waited for included."""
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def signal_quietly(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


if __name__ == "__main__":
    sys.exit(main())
