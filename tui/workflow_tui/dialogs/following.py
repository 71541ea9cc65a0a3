"""Dialogs that stay up to date: they look ten times a second at what the engine has said since."""

from __future__ import annotations

from typing import TypeVar

from textual.screen import ModalScreen

from workflow_tui.sturdy import SturdyScreen

Answer = TypeVar("Answer")
INTERVAL = 0.1


class FollowingDialog(SturdyScreen, ModalScreen[Answer]):
    """A subclass composes itself and brings itself up to date in `follow`, which is called from its first look on."""

    _stands = False

    def on_mount(self) -> None:
        """Show what there is, and follow what comes."""
        self._stands = True
        self.follow()
        self.set_interval(INTERVAL, self.follow)

    def follow(self) -> None:
        """Show what has changed."""
        raise NotImplementedError

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that come before there is anything to look at do nothing."""
        return self._stands
