"""Small disks, and what goes wrong with disks: full, read-only, failing, and files that may not get larger."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.soak.apart import hindered_process


def _mount(*options: str | Path) -> str:
    done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""


@contextlib.contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of `size` in the new folder `folder`; the test is skipped where none can be mounted."""
    folder.mkdir()
    try:
        problem = _mount("-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", folder)
    except FileNotFoundError:
        problem = "there is no mount"
    if problem:
        pytest.skip(f"no disk can be mounted here: {problem}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def resize(folder: Path, size: str) -> None:
    """Let the disk at `folder` have another size."""
    assert _mount("-o", f"remount,size={size}", folder) == ""


@contextlib.contextmanager
def full(folder: Path, pid: int) -> Iterator[None]:
    """Somebody else's file takes all the room there is, again and again."""
    junk = folder / "junk"
    with junk.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        yield
    finally:
        junk.unlink()


@contextlib.contextmanager
def read_only(folder: Path, pid: int) -> Iterator[None]:
    """Nothing can be opened for writing below `folder`."""
    assert _mount("--bind", folder, folder) == ""
    try:
        assert _mount("-o", "remount,bind,ro", folder) == ""
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@contextlib.contextmanager
def failing(folder: Path, pid: int) -> Iterator[None]:
    """Nothing that process `pid` writes comes to the disk: each fsync is an input/output error, and writes in place."""
    with hindered_process(
        pid, "-e", "trace=fsync,fdatasync,pwrite64", "-e", "inject=fsync,fdatasync,pwrite64:error=EIO"
    ):
        yield


@contextlib.contextmanager
def limited(folder: Path, pid: int) -> Iterator[None]:
    """No file of process `pid` may get larger than 2,000 bytes; a write beyond that also sends it SIGXFSZ."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def hidden(folder: Path) -> list[str]:
    """Names of what is written at this moment, or was left behind."""
    return [name for name in os.listdir(folder) if name.startswith(".")]


def remove(folder: Path) -> None:
    """Take a folder away in which somebody still makes files."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
