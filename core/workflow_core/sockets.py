"""Unix sockets the way both ends need them: paths of any length, and who is on the other end."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

SAFE_PATH = 100
"""Bytes a socket's path may have everywhere: the kernel's own field is 104 (macOS) or 108 (Linux) long."""


@contextlib.contextmanager
def short(path: Path) -> Iterator[str]:
    """A name for `path` that fits into a socket address, good while the context lasts.

    A path that is too long is reached through a link in a private folder that is gone afterwards.
    """
    if len(os.fsencode(path)) <= SAFE_PATH:
        yield str(path)
        return
    import tempfile  # costs 8 ms, and hardly ever needed

    base = tempfile.gettempdir()
    with tempfile.TemporaryDirectory(prefix="wtui-", dir=base if len(os.fsencode(base)) < 60 else "/tmp") as folder:
        link = Path(folder, "w")
        link.symlink_to(path.parent)
        yield str(link / path.name)


def listen(path: Path) -> socket.socket:
    """A listening socket at `path`, mode 0600, in place of whatever lay there. Raises OSError."""
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short(path) as name:
            server.bind(name)
        path.chmod(0o600)
        server.listen(64)
        server.setblocking(False)
    except BaseException:
        server.close()
        raise
    return server


def connect(path: Path, timeout: float = 1.0) -> socket.socket:
    """A blocking socket connected to `path`. Raises OSError: nothing there, nobody listening, or no time left."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        peer.settimeout(timeout)
        with short(path) as name:
            peer.connect(name)
    except BaseException:
        peer.close()
        raise
    return peer


def answers(path: Path) -> bool:
    """Is somebody listening at `path`? One that is too busy to accept counts."""
    try:
        connect(path, timeout=0.2).close()
    except TimeoutError:
        return True
    except OSError as error:
        return error.errno == errno.EAGAIN
    return True


def peer_uid(peer: socket.socket) -> int:
    """The user id of the process at the other end, as the kernel vouches for it. Raises OSError."""
    if sys.platform == "linux":
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[1])
    # struct xucred of the BSDs and macOS: version, uid, ...; SOL_LOCAL and LOCAL_PEERCRED have no names in Python
    return int(struct.unpack_from("Ii", peer.getsockopt(0, 1, 76))[1])
