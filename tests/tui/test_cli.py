"""The console command answers at once, in one line, and loads nothing heavy to say no."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.terminal import Terminal

from workflow_tui.cli import main

COMMAND = [sys.executable, "-m", "workflow_tui"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_load_neither_torch_nor_textual(flag: str) -> None:
    program = (
        "import sys; from workflow_tui.cli import main; status = main([sys.argv[1]]);"
        "print(status, [name for name in ('torch', 'textual', 'rich', 'msgspec', 'plotext') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, flag], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
    assert "workflow-tui" in done.stdout
    assert not done.stderr


def test_help_names_the_commands_and_every_option() -> None:
    text = run("--help").stdout
    for word in ("train", "predict", "--workspace", "--device", "--theme", "--version"):
        assert word in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--theem=dark"], ["--theem", "did you mean --theme?"]),
        (["--them", "dark"], ["--them", "did you mean --theme?"]),
        (["trian"], ["trian", "did you mean train?"]),
        (["frobnicate"], ["frobnicate", "--help"]),
        (["--theme", "mauve"], ["mauve", "dark or light"]),
        (["--device", "tpu"], ["tpu", "cuda"]),
        (["--device", "cuda:x"], ["cuda:x"]),
        (["--device", "cuda:1234"], ["cuda:1234", "not known"]),
        (["--device", "\x1b[31m\n"], ["not known"]),
        (["--device", "cpu:0"], ["cpu:0"]),
        (["--theme", "dark", "train"], ["train", "first"]),
        (["--theme"], ["--theme"]),
        (["--\x1b[31m"], ["no option"]),
    ],
)
def test_bad_usage_is_one_line_and_status_2(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "\x1b" not in err
    for word in words:
        assert word in err


def on_a_terminal(tmp_path: Path, size: tuple[int, int], **env: str | None) -> tuple[int, str]:
    with Terminal([*COMMAND, "--workspace", str(tmp_path / "ws")], size=size, env=env) as terminal:
        status = terminal.wait_exit()
        terminal.assert_given_back()
        return status, " ".join(terminal.screen.split())


def test_terminals_that_cannot_show_it_are_refused(tmp_path: Path) -> None:
    status, text = on_a_terminal(tmp_path, (100, 24), TERM="dumb")
    assert status == 2
    assert "type dumb" in text
    status, text = on_a_terminal(tmp_path, (19, 24))
    assert status == 2
    assert text.replace(" ", "").startswith("workflow-tui:Theterminalhas19columns")
    assert not (tmp_path / "ws").exists(), "an engine was started all the same"


def test_a_redirected_output_is_no_terminal(tmp_path: Path) -> None:
    script = f'"{sys.executable}" -m workflow_tui >/dev/null; echo status $?'
    with Terminal(["sh", "-c", script], size=(200, 5)) as terminal:
        terminal.until("status 2")
        assert "standard output is none" in terminal.screen


def test_a_workspace_that_cannot_be_is_a_failure_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [*COMMAND, "--workspace", str(tmp_path / "file")]
    with Terminal(command, size=(200, 5)) as terminal:
        assert terminal.wait_exit() == 1
        assert "cannot be the workspace" in terminal.screen
        assert len(terminal.screen.split("\n\n")[0].splitlines()) == 1


def test_train_and_predict_are_the_headless_program_without_the_current_folder_on_its_path(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('the wrong torch')")
    done = subprocess.run(
        [*COMMAND[:1], "-P", *COMMAND[1:], "train", "--epochs", "1", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"finished"' in done.stdout
    assert run("train", "--no-such-flag").returncode == 2
    assert run("predict").returncode == 2
