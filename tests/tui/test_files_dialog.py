"""The file dialogs among hostile names, vanished folders and files that are there already."""

from __future__ import annotations

from pathlib import Path

from rich.cells import cell_len
from tests.tui.driving import Drive, driving
from textual.widgets import Input

from workflow_core.protocol import Load, Save
from workflow_tui.dialogs.files import OpenDialog, SaveDialog

HOSTILE = (
    "[@click=app.quit]x.pt",
    "esc\x1b[31m.pt",
    "bold[b].pt",
    "wide幅.pt",
    "bidi\u202etp.pt",
    "new\nline.pt",
)


async def opened(drive: Drive, key: str, name: str | None = None) -> None:
    """Open a dialog and wait until it can be typed into."""
    await drive.pilot.press(key)
    await drive.until(lambda: isinstance(drive.app.screen, SaveDialog | OpenDialog))
    if name is not None:
        await drive.until(lambda: isinstance(drive.app.focused, Input) and drive.app.focused.value == name)
    await drive.settle()


async def named(drive: Drive, name: str) -> None:
    """Put another name in place of the proposed one, and press enter."""
    field = drive.app.screen.query_one(Input)
    field.focus()
    field.value = name
    await drive.press("enter")


async def test_a_file_that_is_there_is_replaced_only_after_a_question(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_text("mine")
    async with driving(steps=4) as drive:
        drive.app.files.folder = tmp_path
        for answer in ("c", "escape", "enter"):
            await opened(drive, "w", "model.pt")
            await drive.pilot.press("enter")
            await drive.sees("Replace the file?", "Its content will be gone.")
            await drive.press(answer)
            await drive.until(lambda: not drive.dialog)
            assert drive.client.asked == [], f"{answer} replaced the file"
        await opened(drive, "w", "model.pt")
        await drive.press("enter")
        await drive.sees("Replace the file?")
        await drive.press("r")
        await drive.asks(Save(path=str(tmp_path / "model.pt"), overwrite=True))


async def test_a_new_name_is_not_asked_about_and_its_folder_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    async with driving(steps=4) as drive:
        drive.app.files.folder = tmp_path
        await opened(drive, "w", "model.pt")
        await named(drive, "runs/first.pt")
        await drive.asks(Save(path=str(folder / "first.pt")))
        await drive.until(lambda: drive.app.current_mode == "save")
        assert drive.app.files.folder == folder


async def test_hostile_names_are_shown_and_can_be_chosen(tmp_path: Path) -> None:
    for name in HOSTILE:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "[").mkdir()
    (tmp_path / "[" / "].pt").write_bytes(b"x")
    async with driving(steps=4) as drive:
        drive.app.files.folder = tmp_path
        await opened(drive, "o")
        await drive.sees("[@click=app.quit]x.pt", "bold[b].pt")
        text = drive.text
        assert "\x1b" not in text
        assert "\u202e" not in text
        icons = [line for line in text.splitlines() if ".pt" in line]
        assert all(cell_len(character) == 1 for line in icons for character in line.replace("幅", ""))
        await drive.press("down", "down", "home", "end", "up", "pageup", "pagedown")
        await named(drive, "[/].pt")
        await drive.asks(Load(path=str(tmp_path / "[" / "].pt")))
        await drive.until(lambda: not drive.dialog)


async def test_a_name_can_be_typed_over_the_list_of_files(tmp_path: Path) -> None:
    (tmp_path / "first.pt").write_bytes(b"x")
    async with driving(steps=4) as drive:
        drive.app.files.folder = tmp_path
        await opened(drive, "o")
        assert not isinstance(drive.app.focused, Input)
        await drive.press("down", "space", *"first.pt")
        field = drive.app.screen.query_one(Input)
        assert field.has_focus
        assert field.value == "first.pt"
        await drive.press("enter")
        await drive.asks(Load(path=str(tmp_path / "first.pt")))


async def test_hostile_folder_names_stand_in_the_dialogs(tmp_path: Path) -> None:
    folder = tmp_path / "[@click=app.quit]f" / "\x1b[31m[bold"
    folder.mkdir(parents=True)
    async with driving(steps=4) as drive:
        drive.app.files.folder = folder
        await opened(drive, "w", "model.pt")
        assert "[bold" in drive.text
        assert "\x1b" not in drive.text
        (folder / "model.pt").write_bytes(b"x")
        await drive.press("enter")
        await drive.sees("Replace the file?")
        assert "\x1b" not in drive.text
        await drive.press("r")
        await drive.asks(Save(path=str(folder / "model.pt"), overwrite=True))


async def test_names_that_can_be_no_file_do_not_crash(tmp_path: Path) -> None:
    async with driving(steps=4) as drive:
        drive.app.files.folder = tmp_path
        for name in ("x" * 300, "nofolder/model.pt", "[/]", "~nobody_here/x", "[bold"):
            await opened(drive, "w", "model.pt")
            await named(drive, name)
            for _ in range(3):
                if drive.dialog:
                    await drive.press("escape")
            await drive.until(lambda: not drive.dialog)
            assert drive.app.is_running
        await opened(drive, "o")
        await named(drive, "missing[/].pt")
        assert isinstance(drive.app.screen, OpenDialog)
        await drive.press("escape")
        assert drive.client.commands(Load) == []


async def test_a_folder_that_has_gone_is_left_for_the_one_above(tmp_path: Path) -> None:
    async with driving(steps=5) as drive:
        saved = drive.app.state.saved
        assert saved is not None
        assert not Path(saved.file.path).parent.exists(), "the recorded folder is nobody's"
        for key in ("o", "w", "x"):
            drive.app.files.folder = tmp_path / "gone" / "too"
            await opened(drive, key)
            await drive.press("escape")
            await drive.until(lambda: not drive.dialog)
        assert drive.client.asked == []
