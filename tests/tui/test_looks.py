"""What the Train screen looks like, cell by cell and colour by colour, at three sizes in both themes.

`LOOKS=new pytest tests/tui/test_looks.py` writes the pictures anew: look at what changed before they are kept.
"""

from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from tests.tui.driving import Drive, Size, driving, frame, training
from tests.tui.replay import Recorded, ReplayClient
from tests.tui.test_looking import answered
from tests.tui.test_loop_panel import stepped
from tests.tui.test_train_panels import SURFACE, race

from workflow_core.protocol import Reply, Update
from workflow_tui.widgets.chart import Chart, Heat

SIZES = [(80, 24), (120, 40), (200, 60)]


LETTERS = string.ascii_letters + string.digits + "".join(map(chr, range(0xC0, 0x180)))
LOOKS = Path(__file__).parents[1] / "data" / "looks"


def look_as_before(drive: Drive, name: str) -> None:
    """Compare with the picture that is kept, or keep this one."""
    path, now = LOOKS / f"{name}.txt", painted(drive)
    if os.environ.get("LOOKS") == "new":
        LOOKS.mkdir(exist_ok=True)
        path.write_text(now, encoding="utf-8")
    assert now.splitlines() == path.read_text(encoding="utf-8").splitlines()


def painted(drive: Drive) -> str:
    """The screen's characters, then a letter a cell for its style, then what the letters stand for."""
    names: dict[str, str] = {}
    rows, inks = [], []
    for strip in frame(drive.app):
        row, ink = "", ""
        for text, style, _ in strip:
            colour = style.color.get_truecolor().hex if style is not None and style.color is not None else "-"
            ground = style.bgcolor.get_truecolor().hex if style is not None and style.bgcolor is not None else "-"
            weight = "".join(
                name for name, on in (("bold ", style and style.bold), ("strike ", style and style.strike)) if on
            )
            key = f"{weight}{colour} on {ground}"
            letter = names.setdefault(key, LETTERS[len(names)])
            row, ink = row + text, ink + letter * len(text)
        rows.append(row.rstrip())
        inks.append(ink)
    legend = [f"{letter}: {key}" for key, letter in names.items()]
    return "\n".join([*rows, "", *inks, "", *legend, ""])


def knows(client: ReplayClient) -> None:
    client.answers["ReadSurface"] = Recorded(Reply(id=1, value=SURFACE), ())
    client.answers["LookBack"] = answered()


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_training_looks_as_it_did(size: Size, theme: str) -> None:
    async with driving(steps=3, size=size, theme=theme) as drive:
        view = training(
            state="running",
            epoch=50,
            pace=20.0,
            rate=19.9,
            capacity=6400.0,
            gradients={"weight": -0.1088, "bias": -0.1852},
            best_epoch=49,
        )
        await drive.tell(Update(training=view))
        look_as_before(drive, f"training-{size[0]}x{size[1]}-{theme}")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_pass_line_by_line_beside_the_surface_looks_as_it_did(size: Size, theme: str) -> None:
    async with driving(steps=3, size=size, theme=theme, client=knows) as drive:
        await drive.press("tab", "tab", "f", "home")
        chart = drive.app.screen.query_one("#fit", Chart)
        await drive.until(lambda: any(isinstance(layer, Heat) for layer in chart.spec.layers))
        drive.app.forget_complaint()
        await drive.tell(Update(loop=stepped(4)))
        await drive.until(lambda: "weight.grad None → -0.2301" in drive.panel("#loop"))
        look_as_before(drive, f"line-by-line-{size[0]}x{size[1]}-{theme}")


async def test_a_race_looks_as_it_did() -> None:
    async with driving(steps=3) as drive:
        await drive.tell(race())
        look_as_before(drive, "race-120x40-dark")
