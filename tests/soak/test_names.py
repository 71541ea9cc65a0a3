"""Hostile names in every place where names are shown: they are read, and do nothing else."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.e2e.monkey import probe
from tests.e2e.processes import end_processes_of
from tests.e2e.program import PROGRAM, SCREENS, ready, start
from tests.e2e.terminal import Terminal
from tests.soak.hostile import BYTES, STRINGS, TOGETHER, harm
from tests.soak.machine import needs_names_of_bytes
from tests.soak.table import sizes, tell
from wcwidth import wcswidth

from workflow_core.protocol import (
    BuildModel,
    EditRun,
    Evaluate,
    ExportRun,
    Load,
    MakeData,
    Run,
    Save,
    SetTraining,
)
from workflow_core.sanitize import sanitize
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec
from workflow_core.workspace import Workspace

SIZE = (120, 40)
MODEL = """
import torch
from torch import nn

NAME = {name!r}


class {kind}(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.layer = nn.Linear(features, 1)
        self.register_parameter(NAME, nn.Parameter(torch.zeros(1)))

    def forward(self, x):
        return self.layer(x) + getattr(self, NAME)
"""


def as_file(text: str) -> str:
    """The name of a file that is as near to `text` as there is one."""
    return text.replace("/", "\u2044")


def as_class(text: str) -> str:
    """The name of a class that has all of `text` that one may have."""
    kept = "".join(character for character in text if f"N{character}".isidentifier())
    return unicodedata.normalize("NFKC", f"N{kept}")


def seen(text: str) -> str:
    """What must stand on a screen where `text` is shown: the beginning of it, as the emulator has it."""
    words = sanitize(text).split()
    return unicodedata.normalize("NFC", words[0][:4]) if words else ""


async def prepare(attach: Callable[[Workspace], Any], workspace: Workspace, folder: Path, name: str) -> None:
    """All six steps done in the engine, with `name` wherever a name can be given."""
    file, kind, x = as_file(name), as_class(name), [0.1 * at for at in range(30)]
    table, model, saved = (folder / f"{file}.{ending}" for ending in ("parquet", "py", "pt"))
    columns = {f"{name} 1": x, name: [each * each for each in x], f"{name} 2": [2 * each + 0.1 for each in x]}
    pl.DataFrame(columns).write_parquet(table)  # a CSV file of such names is no text, and refused
    model.write_text(MODEL.format(name=name.replace(".", "_"), kind=kind), encoding="utf-8")
    ui = await attach(workspace)
    await ui.request(MakeData(spec=DataSpec(kind="table", file=str(table), standardize=True)), timeout=60)
    await ui.request(
        BuildModel(spec=ModelSpec(kind="custom", file=str(model), class_name=kind, arguments={"features": 2}))
    )
    await ui.request(SetTraining(spec=TrainSpec(epochs=30, device="cpu")))
    await ui.request(Run(), timeout=60)
    run = (await ui.until_state("finished")).run
    await ui.request(EditRun(run=run, name=name[:100]))  # a longer one is refused, in words
    await ui.request(Evaluate())
    await ui.request(Save(path=str(saved), kind="checkpoint"))
    await ui.request(Load(path=str(saved)))
    for ending in ("csv", "json"):
        await ui.request(ExportRun(run=run, path=str(folder / f"{file}.run.{ending}"), kind=ending), timeout=60)
    exported = json.loads((folder / f"{file}.run.json").read_text(encoding="utf-8"))
    assert exported["settings"]["data"]["file"] == str(table)
    await ui.client.close()


DIALOGS = {"w": "Save the model as", "o": "Load a model from", "x": "Write the script as"}


def walk(terminal: Terminal, name: str) -> list[str]:
    """Through all screens and the dialogs that show names; what was wrong on the way."""
    wrong = []

    def look(where: str, *texts: str, dialog: str = "") -> None:
        def stands(screen: str) -> bool:
            shown = unicodedata.normalize("NFC", screen)
            return all(text in shown for text in (*texts, dialog)) and not broken_boxes(terminal, dialog)

        try:
            terminal.until(stands, 5)
        except AssertionError as error:
            wrong.append(f"{where}: {texts}, {broken_boxes(terminal, dialog)}, {error}")

    def close(title: str) -> None:
        terminal.press("escape")
        terminal.until(lambda screen: title not in screen)

    for key, text in {**SCREENS, "3": "30 / 30 epochs"}.items():
        terminal.press(key)
        look(key, *{"1": ("against", seen(name)), "2": (text, seen(as_class(name)))}.get(key, (text,)))
        if key in "126":
            terminal.press("c")
            look(f"the code of {key}")
            terminal.press("c")
        if key == "1":
            terminal.press("v")
            look("the columns", seen(name), dialog="3 columns, 30 rows")
            close("3 columns, 30 rows")
        if key == "3":
            for _ in range(4):
                terminal.press("tab", "f")
                look("a panel")
            terminal.press("v", "v")
            look("the values")
            terminal.press("u")
            look("the runs", seen(name), dialog="Runs · ")
            close("Runs · ")
    for key, title in DIALOGS.items():
        terminal.press(key)
        look(title, dialog=title)
        close(title)
    probe(terminal, 5)
    return wrong


def broken_boxes(terminal: Terminal, dialog: str) -> list[str]:
    """Right edges that do not go down to their corner, of the boxes of the screen or of the `dialog` above it."""
    with terminal._changed:
        screen = terminal._emulator._screen
        cells = [[screen.buffer[y][x].data for x in range(screen.columns)] for y in range(screen.lines)]
    broken = []
    for y, x in itertools.product(range(len(cells)), range(len(cells[0]))):
        if cells[y][x] not in ("╮", "┓") or dialog not in "".join(cells[y]):
            continue
        edge = list(itertools.takewhile(lambda cell: cell not in ("╯", "┛"), (row[x] for row in cells[y + 1 :])))
        rows = (y + 1 + at for at, cell in enumerate(edge) if cell not in "│┃")
        broken += [f"row {row}: {''.join(cells[row])}" for row in rows]
    return broken


@pytest.fixture
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A short path, of which no process stays."""
    path = tmp_path_factory.mktemp("n")
    yield path
    end_processes_of(path)


@sizes(1, len(STRINGS) + len(BYTES))
def test_names_of_workspaces_are_listed_and_do_nothing(count: int, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workspaces of these names to `ls`, `attach` and `stop`, which speak to people and in JSON."""
    monkeypatch.setenv("XDG_STATE_HOME", str(here))
    needs_names_of_bytes(here)
    names = [*(os.fsencode(as_file(name)) for name in STRINGS), *BYTES]
    for name in names:
        folder = os.fsencode(here / "workflow-tui") + b"/" + name
        os.makedirs(folder, mode=0o700)
        with open(folder + b"/engine.lock", "w"):
            pass
    lost: list[str] = []

    def told(*arguments: str | bytes) -> list[bytes]:
        done = subprocess.run([PROGRAM, *arguments], stdin=subprocess.DEVNULL, capture_output=True)
        wrong = harm(done.stdout + done.stderr)
        if wrong or b"Traceback (most recent call last):\n" in done.stderr or done.returncode not in (0, 1, 2):
            lost.append(f"{arguments}: {done.returncode}, {wrong}, {done.stderr[-500:]!r}")
        return done.stdout.splitlines()

    people, scripts = told("ls"), told("ls", "--json")
    assert len(people) - 1 == len(scripts) == len(names)
    assert {os.fsencode(json.loads(line)["name"]) for line in scripts} == set(names)
    assert {wcswidth(line.decode().partition("none  ")[0]) for line in people[1:]} == {people[0].index(b"engine")}
    for name in names[:count]:
        for command in (["ls"], ["ls", "--json"], ["stop"], ["attach"], ["stop", "--json"]):
            told(*command, name)
    tell("hostile names of workspaces to ls, attach and stop", count, len(lost))
    assert not lost, "\n".join(lost)


@sizes(1, len(STRINGS))
async def test_names_of_columns_files_tensors_classes_and_runs_are_read_and_do_nothing(
    count: int, here: Path, attach: Callable[[Workspace], Any]
) -> None:
    """Each of them everywhere at once in one workspace, walked through on a real terminal."""
    needs_names_of_bytes(here)
    folder = here / "files"
    folder.mkdir()
    for raw in BYTES:
        (Path(os.fsdecode(os.fsencode(folder) + b"/" + raw + b".pt"))).write_bytes(b"no checkpoint")
    lost: list[str] = []
    names = STRINGS[:count] if count > 1 else (TOGETHER,)
    workspace = Workspace.open(here / "w")
    with start(workspace.path, size=SIZE, cwd=folder) as terminal:
        terminal.until(ready, timeout=30)
        own = frozenset(terminal.commands)
        for name in names:
            at = terminal.output.rfind(b"\x1b")  # not in the middle of a sequence
            await prepare(attach, workspace, folder, name)
            wrong = await asyncio.to_thread(walk, terminal, name)
            wrong += harm(bytes(terminal.output[at : terminal.output.rfind(b"\x1b")]), own)
            if wrong:
                lost.append(f"{name!r}: {wrong}")
        terminal.press("q")
        assert terminal.wait_exit(20) == 0
        terminal.assert_given_back()
        wrong = harm(bytes(terminal.output), own)
    logs = [path.read_bytes() for path in (workspace.log, workspace.path / "ui.log") if path.exists()]
    wrong += [each for log in logs for each in harm(log)]
    tell("hostile names in files, columns, tensors, classes and runs", count, len(lost), f"{len(logs)} logs")
    assert not lost, "\n".join(lost)
    assert not wrong
    assert not any(word in log for log in logs for word in (b"MarkupError", b"Traceback"))
