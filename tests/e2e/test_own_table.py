"""A table of one's own by keys alone, at 80x24: opened, its columns chosen, standardised, trained and measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.e2e.processes import until_no_processes_of
from tests.e2e.program import EDITING, go, name_file, ready, start
from tests.e2e.terminal import Terminal


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table: two features that are numbers, one column of text, y = 3·a - 2·b + 5."""
    folder = tmp_path_factory.mktemp("table")
    rows = [(i % 7, (3 * i) % 11) for i in range(40)]
    lines = [f"{a},{b},n{a},{3 * a - 2 * b + 5}" for a, b in rows]
    (folder / "mine.csv").write_text("a,b,name,y\n" + "\n".join(lines) + "\n")
    return folder


def test_a_table_of_ones_own_by_keys_alone(workspace: Path, folder: Path) -> None:
    with start(workspace, cwd=folder) as terminal:
        terminal.until(ready, timeout=30)
        terminal.until("50 rows")
        open_table(terminal)
        standardise(terminal)
        terminal.press("2")
        terminal.until("One feature only")  # the course's model is refused, in words
        terminal.press("enter")
        choose(terminal, "nn.Parameter", "nn.Linear")
        terminal.until("3 parameters · 12 B")
        go(terminal, "3")
        terminal.press("g")
        terminal.until("flat out")
        field(terminal, "0.3")
        terminal.press("space")
        terminal.until("finished.")
        go(terminal, "4")
        for name, value in (("intercept", "5.0000"), ("a", "3.0000"), ("b", "-2.0000")):
            terminal.until(re.compile(rf"{name} +-?[\d.]+ +{value}"))
        terminal.until("Converged")
        terminal.press("enter")
        terminal.until(EDITING)
        terminal.type("1, 2; 0 0")
        terminal.press("enter")
        terminal.until(re.compile(r"1, 2 +4\.0"))
        terminal.press("escape")
        terminal.until("q leave")
        terminal.press("q")
        terminal.until("The model is in no file")
        terminal.press("l")
        assert terminal.wait_exit() == 0
        terminal.assert_given_back()
    until_no_processes_of(workspace)


def open_table(terminal: Terminal) -> None:
    terminal.press("f")
    terminal.until("Open a table")
    terminal.press("tab")
    name_file(terminal, "mine.csv")
    terminal.until("y against a, 1 of 2 features")
    terminal.until("Left out: name (text in line 2)")
    terminal.press("v")
    terminal.until("4 columns, 40 rows")
    terminal.press("enter")
    terminal.until("a, b")


def standardise(terminal: Terminal) -> None:
    terminal.press("enter")
    terminal.until(EDITING)
    terminal.press("shift+tab", "shift+tab")  # dtype is the last field, standardise the one before
    choose_on(terminal)
    terminal.until("Standardised by train's")


def choose_on(terminal: Terminal) -> None:
    terminal.press("enter", "down", "enter")
    terminal.until(re.compile(r"standardise +on"))
    terminal.press("escape")
    terminal.until("q leave")


def choose(terminal: Terminal, before: str, after: str) -> None:
    """In the first field, which is a choice: the next one."""
    terminal.press("enter")
    terminal.until(EDITING)
    terminal.until(before)
    terminal.press("enter", "down", "enter")
    terminal.until(after)
    terminal.press("escape")
    terminal.until("q leave")


def field(terminal: Terminal, text: str) -> None:
    """In the first field, which is a number: another one."""
    terminal.press("enter")
    terminal.until(EDITING)
    terminal.press("home", "shift+end", "delete")
    terminal.type(text)
    terminal.press("enter")
    terminal.until("q leave")
