"""The workspace is private, its lock excludes, and a pid that was used again is not taken for the engine."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from workflow_core import sockets
from workflow_core.errors import WorkflowError
from workflow_core.workspace import Workspace, started


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_workspace_is_private(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "a" / "b")
    assert mode(workspace.path) == 0o700
    assert mode(workspace.checkpoints) == 0o700


def test_a_workspace_that_others_could_write_to_is_tightened(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    Workspace.open(folder)
    assert mode(folder) == 0o700


def test_a_name_lies_under_the_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    default, named = Workspace.open(), Workspace.open("other")
    assert default.path.name == "default"
    assert named.path == default.path.parent / "other"
    assert tmp_path in default.path.parents


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Workspace.open("./here").path == tmp_path / "here"


@pytest.mark.parametrize("name", ["x" * 200, "bell\a", "a/\0b", "~nobody-of-this-name/x", "/proc/nowhere/x"])
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(WorkflowError) as caught:
        Workspace.open(name)
    assert "--workspace" in caught.value.problem.advice


def test_a_file_is_no_workspace(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(WorkflowError, match="cannot be the workspace"):
            Workspace.open(path)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_shared_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(WorkflowError, match="users share"):
        Workspace.open(shared)
    assert mode(shared) == 0o1777


def test_somebody_elses_folder_is_refused(tmp_path: Path) -> None:
    other = Path("/")
    if os.getuid() == 0:
        other = tmp_path / "other"
        other.mkdir()
        os.chown(other, 12345, 12345)
    with pytest.raises(WorkflowError, match="another user"):
        Workspace.open(other)


def test_the_lock_has_one_holder(workspace: Workspace) -> None:
    first = workspace.lock()
    assert first is not None
    assert workspace.lock() is None
    os.close(first)
    second = workspace.lock()
    assert second is not None
    os.close(second)


def test_the_pid_is_recognised(workspace: Workspace) -> None:
    assert workspace.engine_pid() is None
    workspace.write_pid()
    assert workspace.engine_pid() == os.getpid()
    workspace.sweep()
    assert workspace.engine_pid() is None


@pytest.mark.parametrize("text", ["", "x", "-1 5", "0 1", "99999999999999 1", "1 ", "\xff"])
def test_a_damaged_pid_file_names_nobody(workspace: Workspace, text: str) -> None:
    workspace.pid_file.write_text(text, encoding="latin-1")
    assert workspace.engine_pid() is None


def test_a_pid_that_was_used_again_is_not_the_engine(workspace: Workspace) -> None:
    workspace.pid_file.write_text(f"{os.getpid()} {started(os.getpid())}9\n")
    assert workspace.engine_pid() is None


def test_a_process_that_nobody_waited_for_has_ended(workspace: Workspace) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        workspace.pid_file.write_text(f"{child.pid} {started(child.pid)}\n")
        assert workspace.engine_pid() == child.pid
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert workspace.engine_pid() is None


@pytest.mark.parametrize("depth", [1, 3])
def test_sockets_work_under_a_path_of_any_length(tmp_path: Path, depth: int) -> None:
    workspace = Workspace.open(tmp_path.joinpath(*["d" * 100] * depth))
    with sockets.listen(workspace.socket) as server, sockets.connect(workspace.socket) as client:
        server.setblocking(True)
        accepted, _ = server.accept()
        with accepted:
            assert sockets.peer_uid(accepted) == sockets.peer_uid(client) == os.getuid()
        assert mode(workspace.socket) == 0o600
        assert sockets.answers(workspace.socket)


def test_a_stale_socket_does_not_answer_and_is_replaced(workspace: Workspace) -> None:
    sockets.listen(workspace.socket).close()
    assert workspace.socket.exists()
    assert not sockets.answers(workspace.socket)
    with sockets.listen(workspace.socket):
        assert sockets.answers(workspace.socket)


def test_a_listener_that_is_too_busy_to_accept_still_answers(workspace: Workspace) -> None:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as first:
        with sockets.short(workspace.socket) as name:
            server.bind(name)
            server.listen(0)
            first.connect(name)
        assert sockets.answers(workspace.socket)
