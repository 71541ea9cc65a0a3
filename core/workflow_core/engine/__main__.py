"""The engine process: takes the workspace for itself, then serves it until there is no more need."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

from workflow_core import __version__, sockets
from workflow_core.engine.keeper import INTERVAL
from workflow_core.engine.server import Server
from workflow_core.errors import WorkflowError
from workflow_core.launcher import CHECKPOINT_SECONDS, IDLE_SECONDS, open_log, seconds
from workflow_core.workspace import Workspace

IDLE_TIMEOUT = 600.0
"""Seconds an engine lives on with nothing to do and nobody attached, where the environment does not say otherwise."""
LOCK_PATIENCE = 5.0
"""Seconds to wait for another engine to let go of the workspace when it does not answer (any more)."""
HARD_EXIT = 1.4
"""Seconds after which an engine that was told to end is ended, whatever it hangs in, beside those that it waits for its
last batch and its last checkpoint."""

log = logging.getLogger("workflow_core.engine")


def main() -> NoReturn:
    """Run the engine. Exit status 0 also where another engine has the workspace already, 1 where it cannot be used.

    1 also where the last batch did not come to its end.
    """
    options = _arguments()
    umask = os.umask(0o077)
    try:
        workspace = Workspace.open(options.workspace)
        _redirect(workspace)
        # the folder it was started in is the user's, who may want to remove or unmount it
        os.chdir(workspace.path)
        in_order = True
        if _take(workspace) is not None:
            crashed = workspace.left_behind()
            workspace.write_pid()
            # its own files are private by now; those that the user saves are as open as any other of the user's
            os.umask(umask)
            in_order = _serve(workspace, options, crashed)
        status = 0 if in_order else 1
    except WorkflowError as error:
        _say(str(error))
        status = 1
    except OSError as error:
        _say(f"cannot use the workspace: {error}")
        status = 1
    logging.shutdown()
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
    # torch's own threads may be in the middle of anything; unwinding the interpreter around them can hang or crash
    os._exit(status)


def _say(word: str) -> None:
    """The last word, which the log may have no room for."""
    with contextlib.suppress(OSError):
        print(f"workflow-tui engine: {word}", file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m workflow_core.engine",
        description="The engine of workflow-tui; the program starts it by itself.",
    )
    parser.add_argument("--workspace", type=Path, metavar="DIR", required=True, help="the folder to serve")
    parser.add_argument(
        "--idle-timeout",
        type=seconds,
        default=_given(IDLE_SECONDS, IDLE_TIMEOUT),
        metavar="SECONDS",
        help="end after so long with nothing to do and nobody attached (default: %(default)g)",
    )
    parser.add_argument(
        "--checkpoint-interval",
        type=seconds,
        default=_given(CHECKPOINT_SECONDS, INTERVAL),
        metavar="SECONDS",
        help="keep the run that trains at most so often (default: %(default)g)",
    )
    return parser.parse_args()


def _given(variable: str, usual: float) -> float:
    """What the environment says, where that can be meant."""
    try:
        return seconds(os.environ[variable])
    except (KeyError, ValueError):
        return usual


def _redirect(workspace: Workspace) -> None:
    """Let standard output and error go to the log, and input come from nowhere: nobody may be at their other end.

    This comes first: in a process that was started without them, files opened later would take their numbers.
    """
    while (nothing := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    target = open_log(workspace)
    os.dup2(nothing, 0)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(nothing)
    os.close(target)
    sys.stdout = sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    faulthandler.enable(sys.stderr)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")


def _take(workspace: Workspace) -> int | None:
    """The workspace's lock, or None where a live engine has it. Raises WorkflowError where its holder hangs."""
    deadline = time.monotonic() + LOCK_PATIENCE
    while (lock := workspace.lock()) is None:
        if sockets.answers(workspace.socket):
            return None
        if time.monotonic() > deadline:
            raise WorkflowError(
                "The workspace is taken",
                f"another engine (pid {workspace.engine_pid() or 'unknown'}) has {workspace.path} and does not answer: "
                "it hangs, or ends and waits for its last batch.",
                "Wait, or end it, or name another --workspace.",
            )
        time.sleep(0.02)
    return lock


def _serve(workspace: Workspace, options: argparse.Namespace, crashed: bool) -> bool:
    """Serve to the end; False where that lost what was trained last.

    The pid stays then, and the next engine tells of it as of a crash.
    """
    log.info("workflow-tui %s, engine pid %d, Python %s", __version__, os.getpid(), sys.version.split()[0])
    if crashed:
        log.warning("the engine before this one did not end in order")
    in_order = True
    try:
        in_order = asyncio.run(_run(workspace, options, crashed))
    except OSError:
        log.exception("cannot serve %s", workspace.path)
        raise
    finally:
        if in_order and workspace.held():
            workspace.sweep()
    log.info("ended")
    return in_order


async def _run(workspace: Workspace, options: argparse.Namespace, crashed: bool) -> bool:
    asked = False

    def wait(seconds: float) -> None:
        if asked:
            # its thread needs no GIL: it gets through where an epoch or a C library holds everything else up
            faulthandler.dump_traceback_later(seconds + HARD_EXIT, exit=True)

    server = Server(
        workspace, options.idle_timeout, interval=options.checkpoint_interval, crashed=crashed, on_wait=wait
    )

    def terminate(name: str) -> None:
        nonlocal asked
        if asked:
            if workspace.held():
                workspace.sweep()
            os._exit(0)
        asked = True
        wait(server.patience)
        server.end(f"it received {name}")

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, terminate, number.name)
    return await server.serve()


if __name__ == "__main__":
    main()
