"""The zip envelope of saved files: ours are sealed with a SHA-256, foreign ones are checked before torch sees them.

`torch.save` writes a zip archive of stored entries. A sealed file is that archive with a zip comment that holds the
SHA-256 of everything before it, which any plain `torch.load` passes over; every flipped bit of it is refused. Files
without a seal must be plain zip archives as torch writes them, with good CRCs, which torch itself does not check.
"""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zipfile
from dataclasses import dataclass

MARK = b"workflow-tui sha256 "
MAX_BYTES = 512 * 1024 * 1024
MAX_ENTRIES = 10_000

_END = b"PK\x05\x06"
_END_SIZE = 22
_COMMENT_SIZE = len(MARK) + 64
_LOCAL_HEADER = struct.Struct("<26xHH")
_NAMES = re.compile(
    r"data\.pkl|version|byteorder|\.format_version|\.storage_alignment|\.data/serialization_id|data/[0-9]{1,9}"
)
_STARTS = {
    b"\x80": (
        "Not a saved model",
        "it is a bare Python pickle, which could run code when it is opened",
        "Save it again with torch.save(model.state_dict(), ...) of PyTorch 1.6 or later.",
    ),
    b"PK": (
        "Damaged file",
        "it is cut off or damaged, its end is missing",
        "Fetch or save it again.",
    ),
}


class Refused(Exception):
    """A file that must not be loaded: a title, the reason as a clause about `it`, and what to do next."""

    def __init__(self, title: str, reason: str, advice: str = "") -> None:
        self.title, self.reason, self.advice = title, reason, advice
        super().__init__(reason)


@dataclass(frozen=True)
class Archive:
    """A checked archive: the pickle, and how many bytes each storage has. `verified` tells that a seal matched."""

    pickle: bytes
    storages: dict[str, int]
    verified: bool


def seal(data: bytes) -> bytes:
    """What `torch.save` wrote, with its SHA-256 in the zip comment."""
    assert data[-_END_SIZE : -_END_SIZE + 4] == _END
    body = data[:-2] + struct.pack("<H", _COMMENT_SIZE)
    return body + MARK + hashlib.sha256(body).hexdigest().encode()


def open_archive(data: bytes) -> Archive:
    """Check the bytes of a whole file and find its parts. Raises Refused."""
    if not data:
        raise Refused("Not a saved model", "it is empty", "Choose a file that was saved by PyTorch.")
    verified = _verify(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _check_entries(entries, data, archive.start_dir)
            if archive.testzip() is not None:
                raise Refused("Damaged file", "a checksum inside it does not match", "Fetch or save it again.")
            root = entries[0].filename.partition("/")[0] + "/"
            pickle = archive.read(root + "data.pkl")
            byte_order = archive.read(root + "byteorder") if root + "byteorder" in archive.namelist() else b"little"
    except Refused:
        raise
    except Exception as error:  # zipfile raises nearly anything for bytes that are no archive
        raise Refused("Damaged file", "it is not a whole archive", "Fetch or save it again.") from error
    if byte_order != b"little":
        raise Refused("Not a saved model", "it was saved on a machine with another byte order")
    sizes = {entry.filename.removeprefix(f"{root}data/"): entry.file_size for entry in entries}
    return Archive(pickle, {key: size for key, size in sizes.items() if key.isdigit()}, verified)


def _verify(data: bytes) -> bool:
    """True where the seal is there and matches, False for an archive without any comment."""
    if not data.startswith(b"PK"):
        raise _unknown(data)
    if data[-_END_SIZE:][:4] == _END and data[-2:] == b"\0\0":
        return False
    body, comment = data[:-_COMMENT_SIZE], data[-_COMMENT_SIZE:]
    if body[-_END_SIZE:][:4] != _END:
        raise _unknown(data)
    if comment != MARK + hashlib.sha256(body).hexdigest().encode():
        raise Refused(
            "Damaged file",
            "its checksum does not match its content, so at least one byte has changed since it was saved",
            "Fetch it or save it again.",
        )
    return True


def _unknown(data: bytes) -> Refused:
    for start, what in _STARTS.items():
        if data.startswith(start):
            return Refused(*what)
    return Refused(
        "Not a saved model", "it is not a file that PyTorch saved", "Choose a .pt file made by torch.save or by Save."
    )


def _check_entries(entries: list[zipfile.ZipInfo], data: bytes, directory: int) -> None:
    odd = Refused("Not a saved model", "it is a zip archive, but not one that torch.save wrote")
    names = [entry.filename for entry in entries]
    if not 1 <= len(names) <= MAX_ENTRIES or len(set(names)) != len(names):
        raise odd
    root, slash, _ = names[0].partition("/")
    if not slash or f"{root}/data.pkl" not in names:
        raise odd
    if f"{root}/constants.pkl" in names:
        raise Refused(
            "Not weights",
            "it is a TorchScript program, not weights",
            "Save model.state_dict() instead.",
        )
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if not entry.filename.startswith(f"{root}/") or not _NAMES.fullmatch(entry.filename[len(root) + 1 :]):
            raise odd
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size or entry.flag_bits & 1:
            raise Refused("Not a saved model", "it holds packed or encrypted entries, which torch.save never writes")
        if entry.header_offset < end or (end == 0 and entry.header_offset):
            raise odd
        name_size, extra_size = _LOCAL_HEADER.unpack_from(data, entry.header_offset)
        end = entry.header_offset + 30 + name_size + extra_size + entry.file_size
    if end > directory:
        raise odd
