"""Engines for tests that need not wait for PyTorch: forked from a process that has loaded it, and done nothing else.

As a script it is that process. What tests start this way has the arguments, the environment, the folder, the log and
the session of an engine that `launch` has started; how it loads PyTorch, and all that is told meanwhile, is for tests
that start engines as they are (tests/e2e and tests/soak among them).
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any, NoReturn

ROOM = 1 << 20
"""Bytes of a message."""
READ_EARLY = (
    "PYTHON",
    "LD_",
    "OMP_",
    "MKL_",
    "KMP_",
    "GOMP_",
    "ATEN_",
    "TORCH",
    "PYTORCH",
    "CUDA",
    "LC_",
    "LANG",
    "MALLOC",
)
"""Beginnings of the names of variables that only a new process heeds."""


class Forks:
    """Stands for `subprocess` in the launcher."""

    DEVNULL = subprocess.DEVNULL

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._early = _early(os.environ)

    def Popen(self, command: list[str], **options: Any) -> Any:
        """The engine, forked where that makes no difference to it."""
        if _early(os.environ) != self._early:
            return subprocess.Popen(command, **options)
        asked = {"argv": command[command.index("-m") + 1 :], "folder": os.getcwd(), "environment": dict(os.environ)}
        return Fork(self, self.ask(asked, options["stdout"]))

    def ask(self, request: Mapping[str, Any], *descriptors: int) -> Any:
        """What the process answers, which is started for the first question."""
        with self._lock:
            if self._socket is None:
                self._socket = _started()
            socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
            return json.loads(self._socket.recv(ROOM))


class Fork:
    """As much of a Popen as the launcher and the tests use."""

    def __init__(self, forks: Forks, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._forks = forks

    def poll(self) -> int | None:
        """The exit status, None while it lives."""
        if self.returncode is None:
            self.returncode = self._forks.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        end = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(f"engine {self.pid}", timeout or 0.0)
            time.sleep(0.005)
        return status

    def kill(self) -> None:
        """Kill it, where it lives."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def _early(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_EARLY)}


def _started() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-P", __file__, str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait(10)

    atexit.register(end)
    return ours


def main(connection: socket.socket) -> None:
    """Fork engines and tell of their ends, until nobody asks any more."""
    import torch  # noqa: F401

    from workflow_core.engine import __main__ as engine  # noqa: F401
    from workflow_core.engine import session

    session.warm_up()
    assert threading.active_count() == 1
    ended = dict[int, int]()
    while True:
        data, descriptors, _, _ = socket.recv_fds(connection, ROOM, 1)
        if not data:
            return
        request = json.loads(data)
        if "poll" in request:
            answer = ended.get(request["poll"])  # two threads may ask
            if answer is None and (found := os.waitpid(request["poll"], os.WNOHANG))[0]:
                answer = ended[found[0]] = os.waitstatus_to_exitcode(found[1])
        else:
            answer = os.fork()
            if not answer:
                connection.close()
                become_engine(request, descriptors[0])
            ended.pop(answer, None)  # another one had its number
            os.close(descriptors[0])
        connection.send(json.dumps(answer).encode())


def become_engine(request: dict[str, Any], log: int) -> NoReturn:
    """What a new process is when its interpreter begins, and then the engine."""
    from workflow_core.engine import __main__ as engine

    os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    for ours, theirs in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(ours, theirs)
    os.closerange(3, 64)
    sys.argv = request["argv"]
    try:
        engine.main()
    except SystemExit as stop:
        os._exit(stop.code if isinstance(stop.code, int) else 1)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
