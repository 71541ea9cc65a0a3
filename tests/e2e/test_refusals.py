"""What cannot be done is said in a sentence, changes nothing, and leaves the terminal as it was."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.e2e.processes import processes_of, until_no_processes_of
from tests.e2e.program import PROGRAM, go, name_file, ready, start, train
from tests.e2e.terminal import Terminal

USAGE = 2
HOSTILE = (
    "[/x].pt",
    "[@click=app.quit]x.pt",
    "[bold red]b.pt",
    "\x1b[31mred.pt",
    "\x1b]52;c;aGVsbG8=\x07clip.pt",
    "\x1b]0;owned\x1b\\title.pt",
    "\x9b31mc1.pt",
    "\u202egnp.tp.pt",
    "new\nline\r.pt",
    "\x07bell.pt",
)


def run(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """The installed program with no terminal at all."""
    return subprocess.run(
        [PROGRAM, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
    )


def refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == USAGE
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, "one sentence"
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


# --- before anything starts ---


def test_without_a_terminal_the_headless_command_is_named_at_once(workspace: Path) -> None:
    times = []
    for _ in range(3):
        began = time.monotonic()
        refused(run("--workspace", str(workspace)), "terminal", "workflow-tui train")
        times.append(time.monotonic() - began)
    assert min(times) < 0.5
    assert processes_of(workspace) == {}
    assert list(workspace.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--no-such-flag"], ["--no-such-flag"]),
        (["trian"], ["trian", "did you mean train"]),
        (["--theme", "blue"], ["blue", "dark", "light"]),
        (["train", "--epochs", "-1"], ["epochs"]),
    ],
)
def test_bad_usage_is_one_sentence_and_status_2(arguments: Sequence[str], words: Sequence[str]) -> None:
    refused(run(*arguments), *words)


def test_help_and_version_answer_without_a_terminal() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    assert all(word in shown.stdout for word in ("--workspace", "train", "predict"))
    version = run("--version")
    assert version.returncode == 0
    assert version.stdout.startswith("workflow-tui ")


def test_the_headless_command_trains_in_json_lines() -> None:
    result = run("train", "--epochs", "5", "--json")
    assert result.returncode == 0
    first, *_, last = map(json.loads, result.stdout.splitlines())
    assert first["event"] == "started"
    assert (last["event"], last["epochs"], last["path"]) == ("finished", 5, None)
    assert 0 < last["train_loss"] < 0.0922


def test_a_folder_that_is_gone_is_one_sentence(workspace: Path) -> None:
    gone = workspace / "gone"
    script = 'mkdir "$1" && cd "$1" && rmdir "$1" && exec "$2" --workspace "$3"'
    with Terminal(["sh", "-c", script, "sh", gone, PROGRAM, workspace]) as terminal:
        assert terminal.wait_exit() == 1
        terminal.assert_given_back()
        assert "The current folder has been removed" in terminal.screen
        assert "Traceback" not in terminal.screen
    assert processes_of(workspace) == {}


# --- the terminal's size ---


def test_too_small_a_terminal_is_told_how_much_is_needed(workspace: Path) -> None:
    with start(workspace, size=(19, 4)) as terminal:
        assert terminal.wait_exit() == USAGE
        terminal.assert_given_back()
        said = "".join(terminal.output.decode().split("\r\n"))
    assert said.startswith("workflow-tui: The terminal has 19 columns and 4 rows;")
    assert said.count(".") == 1
    assert processes_of(workspace) == {}


def test_a_small_terminal_shows_something_and_survives_growing_and_shrinking(workspace: Path) -> None:
    sizes = ((20, 5), (40, 10), (60, 18))
    with start(workspace, size=sizes[0]) as terminal:
        terminal.until(lambda screen: "Data" in screen)
        terminal.resize(200, 60)
        terminal.until(ready, timeout=30)
        for size in sizes:
            terminal.until("y against x")
            terminal.until("50 rows")
            terminal.resize(*size)
            terminal.until(lambda screen: "Data" in screen)
            # it still listens: the next step's screen comes, and goes
            terminal.press("n")
            terminal.until("The model")
            terminal.resize(200, 60)
            go(terminal, "1")
        terminal.resize(80, 24)
        terminal.press("q")
        assert terminal.wait_exit() == 0
        terminal.assert_given_back()
    until_no_processes_of(workspace)


# --- files ---


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture
def trained(workspace: Path, folder: Path) -> Iterator[Terminal]:
    with start(workspace, cwd=folder) as terminal:
        terminal.until(ready, timeout=30)
        train(terminal)
        yield terminal
        assert terminal.poll() is None, "the program has ended"
        assert "Traceback" not in terminal.screen


def dismiss(terminal: Terminal, title: str) -> None:
    """Close the one dialog with `title`; no other may stand behind it."""
    terminal.press("o")
    terminal.until(lambda screen: title not in screen)


def cancel(terminal: Terminal, title: str) -> None:
    """Close the file dialog with `title` by escape."""
    terminal.press("escape")
    terminal.until(lambda screen: title not in screen)


def save_as(terminal: Terminal, name: str) -> None:
    terminal.press("w")
    terminal.until("Save the model as")
    name_file(terminal, name)


def load_from(terminal: Terminal, name: str) -> None:
    terminal.press("o")
    terminal.until("Load a model from")
    terminal.press("tab")
    name_file(terminal, name)


def test_a_place_that_takes_no_file_is_one_dialog_and_nothing_is_written(trained: Terminal, folder: Path) -> None:
    (folder / "plain").write_text("a file")
    for name, reason in (
        ("/nonexistent/x.pt", "folder"),
        ("plain/x.pt", "folder"),
        ("/proc/x.pt", ""),
        ("x" * 300, ""),
    ):
        save_as(trained, name)
        screen = trained.until("o  ok")
        assert reason in screen
        dismiss(trained, "o  ok")
    # the name of a folder is a way into it, never a file to replace
    (folder / "inner").mkdir()
    save_as(trained, "inner")
    trained.until(f"{folder.name}/inner")
    cancel(trained, "Save the model as")
    assert sorted(path.name for path in folder.rglob("*")) == ["inner", "plain"]
    assert "5 Save ✓" not in trained.screen


def test_what_is_no_checkpoint_is_one_dialog_and_changes_nothing(trained: Terminal, folder: Path) -> None:
    files = {
        "text.pt": b"this is no checkpoint\n" * 20,
        "empty.pt": b"",
        "cut.pt": b"PK\x03\x04" + bytes(200),
        "pickle.pt": b"\x80\x02cos\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
        load_from(trained, name)
        screen = trained.until("o  ok")
        assert name in screen
        assert not any(word in screen for word in ("Traceback", "Error:", "weights_only", "EOFError"))
        dismiss(trained, "o  ok")
    load_from(trained, "missing.pt")
    trained.until(lambda screen: "o  ok" in screen or "must exist" in screen)
    cancel(trained, "Load a model from")
    trained.until("train 0.0036 · val 0.0189")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_hostile_names_are_shown_and_do_nothing(trained: Terminal, folder: Path) -> None:
    for name in HOSTILE:
        (folder / name).parent.mkdir(exist_ok=True)  # a slash in the name makes a folder of its first half
        (folder / name).write_bytes(b"no checkpoint")
    before = len(trained.output)
    listed = sorted(name for name in HOSTILE if "/" not in name)
    for name in (listed[0], "\x1b]52;c;aGVsbG8=\x07clip.pt", "[@click=app.quit]x.pt", listed[-1]):
        trained.press("o")
        trained.until("Load a model from")
        trained.until("red.pt")
        # two folders stand above the files: the parent's and [
        trained.press(*["down"] * (listed.index(name) + 2), "enter")
        trained.until(re.compile(r"▊ .*\.pt"))
        trained.press("enter")
        trained.until("Not a saved model")
        dismiss(trained, "Not a saved model")
    load_from(trained, "[/x].pt")
    trained.until(lambda screen: "Not a saved model" in screen and "[/x].pt" in screen)
    dismiss(trained, "Not a saved model")
    # Textual's own commands end in a bell; what they said is looked at below
    written = re.sub(rb"\x1b\][^\x07\x1b]*(\x07|\x1b\\)", b"", trained.output[before:])
    for escape in (b"\x1b[31mred", b"\xc2\x9b", "\u202e".encode(), b"\x07"):
        assert escape not in written
    assert not any(command.startswith(b"52") or b"owned" in command for command in trained.commands)
