"""Paths for the file dialogs, whose library asks the disk without a guard: an error there would end the program."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    _Path = Path
else:
    _Path = type(Path())  # before Python 3.12 only the system's own class can have subclasses


class CalmPath(_Path):
    """A path that answers "no" and "nothing there" where the disk answers with an error."""

    def is_dir(self, **how: bool) -> bool:
        """Is it a folder? A name that is too long is none."""
        try:
            return super().is_dir(**how)
        except (OSError, ValueError):
            return False

    def exists(self, **how: bool) -> bool:
        """Is there something?"""
        try:
            return super().exists(**how)
        except (OSError, ValueError):
            return False

    def iterdir(self) -> Generator[CalmPath]:
        """What lies in it; nothing where it has gone. Raises PermissionError, which the library shows."""
        try:
            yield from super().iterdir()
        except PermissionError:
            raise
        except OSError:
            return

    def resolve(self, strict: bool = False) -> CalmPath:
        """The path without links; where that cannot be told, as it is."""
        try:
            return super().resolve(strict)
        except (OSError, RuntimeError, ValueError):
            return self.absolute()


def standing(folder: Path) -> Path:
    """`folder`, or the nearest one above it that is there: it may have gone since it was chosen."""
    calm = CalmPath(folder)
    return next((Path(place) for place in (calm, *calm.parents) if place.is_dir()), Path("/"))
