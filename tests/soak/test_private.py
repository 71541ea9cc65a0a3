"""Nobody but its user gets at a workspace, and what a dead engine or another process left does not close it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.core.conftest import end_engine, until_kept
from tests.core.test_back import kept_epoch
from tests.soak.table import sizes, tell

from workflow_core.launcher import child_of
from workflow_core.protocol import Pause, Run, SetTraining
from workflow_core.specs import TrainSpec
from workflow_core.workspace import Workspace, started

Attach = Callable[[Workspace], Any]
NOBODY = 65534
SPEC = TrainSpec(epochs=10**7, device="cpu")

_OTHER = """
import json, os, socket, sys
folder, files, place = sys.argv[1], sys.argv[2:-1], sys.argv[-1]
found = []
try:
    found.append(f"lists {os.listdir(folder)}")
except PermissionError:
    pass
for name in files:
    for mode in ("rb", "r+b", "ab"):
        try:
            open(os.path.join(folder, name), mode).close()
            found.append(f"opens {name} as {mode}")
        except (PermissionError, FileNotFoundError):  # refused, or written anew by then
            pass
peer = socket.socket(socket.AF_UNIX)
peer.settimeout(5)
try:
    peer.connect(place)
    try:
        said = peer.recv(65536)
    except ConnectionError:
        said = b""
    found.append(f"hears {said!r}" if said else "is hung up on")
except PermissionError:
    pass
print(json.dumps(found))
"""
"""What another user tries: to list, open and write all there is, and to talk to the engine."""


PYTHON = shutil.which("python3", path="/usr/bin:/bin") or ""
"""The one of the tests may lie where nobody else can go."""


def needs_another_user() -> None:
    """Skip the test where no other user can be made of this one."""
    if os.geteuid() != 0 or sys.platform != "linux" or shutil.which("setpriv") is None or not PYTHON:
        pytest.skip("only root can try this as another user, by setpriv and the system's python3")


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that every user can enter, which those of tests are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def another_user(*command: str) -> list[str]:
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]


def tried_by_another(workspace: Workspace, files: list[str]) -> list[str]:
    """What another user gets out of a workspace that has these files."""
    place = str(workspace.socket)
    done = subprocess.run(
        another_user(PYTHON, "-I", "-S", "-c", _OTHER, str(workspace.path), *sorted({*files} - {"engine.sock"}), place),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def readable(folder: Path) -> list[str]:
    """What lies in the folder and has permissions for others."""
    return [f"{path.name} {path.lstat().st_mode:o}" for path in folder.rglob("*") if path.lstat().st_mode & 0o077]


async def trained(attach: Attach, workspace: Workspace) -> Any:
    """A screen on an engine that has kept a run and trains on with it."""
    ui = await attach(workspace)
    await ui.request(SetTraining(spec=SPEC))
    await ui.request(Run(epochs=50), timeout=60)
    await ui.until_state("paused")
    await until_kept(workspace)
    await ui.request(Run(), timeout=60)
    return ui


@sizes(1, 4)
async def test_another_user_neither_connects_nor_reads(count: int, reachable: Path, attach: Attach) -> None:
    """An engine started under each of four umasks; another user tries all there is, even in an open folder."""
    needs_another_user()
    got: dict[str, list[str]] = {}
    for umask in (0o000, 0o077, 0o022, 0o002)[:count]:
        workspace = Workspace.open(reachable / f"{umask:o}")
        before = os.umask(umask)
        try:
            ui = await trained(attach, workspace)
            child = child_of(workspace)
            assert child is not None
        finally:
            os.umask(before)
        try:
            assert stat.S_IMODE(workspace.path.stat().st_mode) == 0o700
            files = below(workspace.path)
            assert {"engine.sock", "engine.log", "workspace.sqlite", "checkpoints/run.pt"} <= set(files)
            more = readable(workspace.path) + tried_by_another(workspace, files)
            # somebody opens it to all, which the next engine takes back
            workspace.path.chmod(0o755)
            workspace.checkpoints.chmod(0o755)
            found = tried_by_another(workspace, files)
            assert found.pop(0).startswith("lists"), "the other user has not come so far as to be refused"
            more += found
            workspace.socket.chmod(0o666)
            _, *found = tried_by_another(workspace, files)
            more += found if found != ["is hung up on"] else []
            if more:
                got[f"umask {umask:o}"] = more
            epoch = ui.training.epoch
            await ui.until(lambda: ui.training.epoch > epoch + 100)  # noqa: B023
            await ui.request(Pause())
            assert child.poll() is None
        finally:
            end_engine(workspace)
        Workspace.open(workspace.path)
        assert stat.S_IMODE(workspace.path.stat().st_mode) == 0o700
    tell("umasks under which another user tries to get in", count, len(got), f"{len(files)} files each, and the socket")
    assert not got


def reused_by_a_python(workspace: Workspace) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "input()", str(workspace.path)], stdin=subprocess.PIPE)


def reused_by_another_user(workspace: Workspace) -> subprocess.Popen[bytes]:
    return subprocess.Popen(another_user("sleep", "1000"))


@sizes(1, 3)
async def test_what_a_killed_engine_left_does_not_close_the_workspace(
    count: int, workspace: Workspace, attach: Attach
) -> None:
    """A socket nobody listens at, and a pid that is now another Python, another user's process, or nobody's."""
    if count > 1:
        needs_another_user()
    takers = (reused_by_a_python, reused_by_another_user, None)[:count]
    lost = 0
    ui = await trained(attach, workspace)
    for take in takers:
        child = child_of(workspace)
        assert child is not None
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
        kept = kept_epoch(workspace.kept_run)
        assert workspace.socket.exists()
        assert workspace.left_behind()
        taker = take(workspace) if take is not None else None
        try:
            if taker is not None:
                begun = workspace.pid_file.read_text().split()[1]
                workspace.pid_file.write_text(f"{taker.pid} {begun}\n")
                assert started(taker.pid) not in ("", begun)
            assert workspace.engine_pid() is None
            await ui.client.close()
            ui = await attach(workspace)
            await ui.until(lambda: ui.state.get("training") and ui.notices, 60)  # noqa: B023
            lost += ui.training.epoch != kept or "killed" not in "".join(ui.notices)
            assert taker is None or taker.poll() is None, "somebody else's process is left alone"
            await ui.request(Run(), timeout=60)
        finally:
            if taker is not None:
                taker.kill()
                taker.communicate()
    tell("stale sockets and pids that others have by now", count, lost)
    assert not lost


async def test_a_socket_under_a_long_path_is_as_private(
    tmp_path: Path, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way round by a short link is gone once the engine listens, and leaves nothing behind."""
    workspace = Workspace.open(tmp_path / ("d" * 120))
    with tempfile.TemporaryDirectory() as short:  # where nobody else makes links
        monkeypatch.setenv("TMPDIR", short)
        monkeypatch.setattr(tempfile, "tempdir", None)  # looked up anew, and as it was after the test
        try:
            await attach(workspace)
            assert stat.S_IMODE(workspace.socket.lstat().st_mode) == 0o600
            assert not os.listdir(short)
            names = Path("/proc/net/unix").read_text() if Path("/proc/net/unix").exists() else ""
            assert "@workflow" not in names, "nothing listens where every user may connect"
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as peer, pytest.raises(OSError, match="too long"):
                peer.connect(str(workspace.socket))
        finally:
            end_engine(workspace)
