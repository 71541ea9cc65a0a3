"""The workspace is private, its lock excludes, and a pid that was used again is not taken for the engine."""

from __future__ import annotations

import errno
import os
import pwd
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
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
    folder.chmod(0o2777)
    workspace = Workspace.open(folder)
    assert mode(folder) == 0o2700, "and the group of what is made in it stays"
    workspace.log.touch()
    folder.chmod(0o755)
    Workspace.open(folder)
    assert mode(folder) == 0o700


@pytest.mark.parametrize("permissions", [0o2775, 0o777, 0o755])
def test_a_folder_of_other_things_is_left_to_those_who_can_enter_it(tmp_path: Path, permissions: int) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "notes.txt").touch()
    folder.chmod(permissions)
    with pytest.raises(WorkflowError, match="Name a new folder"):
        Workspace.open(folder)
    assert mode(folder) == permissions
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    folder.chmod(0o700)
    assert Workspace.open(folder).checkpoints.is_dir()


@pytest.mark.parametrize("name", ["engine.log", "engine.lock", "engine.pid", "engine.pid.tmp", "news.json"])
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_what_was_planted_in_place_of_a_file_is_never_written_through(
    tmp_path: Path, name: str, link: Callable[[Path, Path], None]
) -> None:
    (tmp_path / "mine").write_text("kept")
    folder = tmp_path / "w"
    folder.mkdir(mode=0o700)
    link(tmp_path / "mine", folder / name)
    with pytest.raises(WorkflowError, match=f"{name} in it is a link"):
        Workspace.open(folder)
    assert (tmp_path / "mine").read_text() == "kept"


@pytest.mark.parametrize("name", ["engine.sock", "checkpoints"])
def test_nor_is_a_planted_link_followed_to_a_socket_or_a_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "w").mkdir(mode=0o700)
    (tmp_path / "w" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WorkflowError, match=f"{name} in it is a link"):
        Workspace.open(tmp_path / "w")


def test_a_link_that_comes_later_is_not_followed_either(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    for name, write in (("engine.lock", workspace.lock), ("engine.pid.tmp", workspace.write_pid)):
        (workspace.path / name).symlink_to(tmp_path / "mine")
        with pytest.raises(OSError, match="symbolic links"):
            write()
    assert (tmp_path / "mine").read_text() == "kept"


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


def test_a_path_that_is_not_utf_8_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    with pytest.raises(WorkflowError, match="not UTF-8"):
        Workspace.open(bad)
    monkeypatch.setenv("XDG_STATE_HOME", bad)
    with pytest.raises(WorkflowError, match="default workspace is not UTF-8"):
        Workspace.open()
    assert os.listdir(tmp_path) == []


def test_without_a_home_the_default_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: int) -> None:
        raise KeyError

    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for asked in (None, "name", "~/folder"):
        with pytest.raises(WorkflowError, match="has no place"):
            Workspace.open(asked)


def test_a_relative_path_in_a_folder_that_is_gone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(WorkflowError, match="current folder"):
        Workspace.open("./here")


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


def test_a_workspace_is_held_until_it_is_known_to_be_another(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not workspace.held()
    assert workspace.lock() is not None
    assert workspace.held()
    for number in (errno.EIO, errno.ESTALE, errno.EACCES):
        with monkeypatch.context() as patched:
            patched.setattr(Path, "stat", failing(number))
            assert workspace.held(), "that a disk fails is no sign"
    away = workspace.path.rename(workspace.path.with_name("away"))
    assert not workspace.held()
    workspace.path.touch()
    assert not workspace.held()
    workspace.path.unlink()
    Workspace.open(workspace.path).lock()
    assert not workspace.held()
    workspace.lock_file.unlink()
    workspace.checkpoints.rmdir()
    workspace.path.rmdir()
    away.rename(workspace.path)
    assert workspace.held()


def failing(number: int) -> Callable[..., os.stat_result]:
    """A disk that gives nothing but an error."""

    def stat(path: Path, **how: bool) -> os.stat_result:
        raise OSError(number, os.strerror(number), str(path))

    return stat


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
