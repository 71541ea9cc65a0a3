"""On a real pty: whatever ends the app, it ends in time, and the shell gets its terminal back."""

from __future__ import annotations

import contextlib
import gc
import random
import re
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.terminal import Terminal
from tests.tui.small_app import SmallApp

from workflow_tui.terminal.garbage import THRESHOLDS
from workflow_tui.terminal.session import GuardedApp, run_app

PROGRAM = Path(__file__).with_name("small_app.py")


@contextlib.contextmanager
def small_app(tmp_path: Path, *, shell: str = "") -> Iterator[Terminal]:
    """The small app, ready; `shell` is what a shell does before it becomes the app."""
    command = [sys.executable, str(PROGRAM), str(tmp_path / "app.log")]
    if shell:
        command = ["sh", "-c", f'{shell}; exec "$@"', "sh", *command]
    with Terminal(command, size=(80, 24)) as terminal:
        terminal.until("ready", 20)
        yield terminal


def ends(terminal: Terminal, within: float) -> int:
    start = time.monotonic()
    status = terminal.wait_exit(within)
    assert time.monotonic() - start < within
    return status


def test_an_ordinary_end_gives_the_terminal_back_with_the_apps_own_status(tmp_path: Path) -> None:
    with small_app(tmp_path) as terminal:
        assert {1049, 2004} <= terminal.modes
        terminal.press("q")
        assert ends(terminal, 5) == 7
        terminal.assert_given_back()
    assert not (tmp_path / "app.log").exists()


def test_a_ctrl_z_that_comes_as_it_leaves_does_not_stop_it(tmp_path: Path) -> None:
    with small_app(tmp_path) as terminal:
        terminal.press("q")
        deadline = time.monotonic() + 5
        while terminal.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(AssertionError):  # there is nobody to read it any more
                terminal.send(b"\x1a", 0.001)
        assert ends(terminal, 5) == 7
        terminal.assert_given_back()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_end_it_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    with small_app(tmp_path) as terminal:
        terminal.signal(number)
        assert ends(terminal, 3) == 128 + number
        terminal.assert_given_back()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_blocked_event_loop_is_cut_short(tmp_path: Path, number: signal.Signals) -> None:
    with small_app(tmp_path) as terminal:
        terminal.press("b")
        terminal.until("blocked")
        terminal.until(lambda _: _sleeping(terminal.pid))
        terminal.signal(number)
        assert ends(terminal, 4) == 128 + number
        terminal.assert_given_back()


def _sleeping(pid: int) -> bool:
    """Whether the main thread sits in the 60 s sleep: its own clock nearly stands still."""
    channel = Path(f"/proc/{pid}/syscall")
    if not channel.exists():
        return True
    # clock_nanosleep is 230 on x86-64 and 115 on arm64
    return channel.read_text().split()[0] in ("230", "115")


@pytest.mark.parametrize("shell", ["", "trap '' HUP"], ids=["default", "ignored"])
def test_a_dropped_line_ends_it(tmp_path: Path, shell: str) -> None:
    with small_app(tmp_path, shell=shell) as terminal:
        terminal.hang_up()
        assert terminal.wait_exit(5) == 128 + signal.SIGHUP


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminal_that_stopped_reading_holds_nothing_up(tmp_path: Path, number: signal.Signals) -> None:
    with small_app(tmp_path) as terminal:
        terminal.press("f")
        terminal.until("frame 20")
        with terminal.not_reading():
            _until_full(terminal)
            start = time.monotonic()
            terminal.signal(number)
            assert terminal.wait_exit(5) == 128 + number
            assert time.monotonic() - start < 3
        assert terminal.wait_exit() == 128 + number
        terminal.assert_given_back()


def test_a_blocked_loop_on_a_terminal_that_stopped_reading_is_cut_short(tmp_path: Path) -> None:
    with small_app(tmp_path) as terminal:
        terminal.press("f")
        terminal.until("frame 20")
        with terminal.not_reading():
            _until_full(terminal)
            terminal.press("b")
            terminal.until(lambda _: _sleeping(terminal.pid))
            terminal.signal(signal.SIGTERM)
            assert terminal.wait_exit(4) == 143
        assert terminal.wait_exit() == 143
        terminal.assert_given_back()


def _until_full(terminal: Terminal) -> None:
    """Wait until the pty takes no more: what the app writes while nobody reads has filled it."""
    room = select.poll()
    room.register(terminal._slave, select.POLLOUT)
    end = time.monotonic() + 10
    while room.poll(0):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_terminal_that_reads_again_is_drawn_anew(tmp_path: Path) -> None:
    with small_app(tmp_path) as terminal:
        terminal.press("f")
        terminal.until("frame 20")
        with terminal.not_reading():
            _until_full(terminal)
        before = terminal.written
        terminal.until_written(before + 20_000, 10)
        terminal.press("x")
        screen = terminal.until("last x")
        frames = set(re.findall(r"frame (\d+) ", screen))
        assert len(frames) <= 2
        assert "\ufffd" not in screen
        terminal.press("q")
        assert ends(terminal, 5) == 7
        terminal.assert_given_back()


def test_a_crash_is_one_sentence_and_a_log(tmp_path: Path) -> None:
    with small_app(tmp_path) as terminal:
        terminal.press("c")
        assert ends(terminal, 5) == 1
        terminal.assert_given_back()
        said = " ".join(terminal.screen.split())
        assert said.startswith("workflow-tui: The app failed: ValueError: [/] boom")
        assert "Traceback" not in said
    log = (tmp_path / "app.log").read_text()
    assert "Traceback" in log
    assert "action_crash" in log


@pytest.mark.parametrize(
    "noise",
    [
        b"\xff\xfe\x80\xc3",
        b"\x1b[48;99999;99999;1;1t",
        b"\x1b[<99999999999;99999;99999M\x1b[M\xff\xff\xff",
        b"\x1b[" + b"1;" * 500,
        b"\x1b[200~never ended",
        b"\x1b]52;;" + b"A" * 5000 + b"\x07",
        b"\x1b[99999999999999999999;5u\x1b[1114112u\x1b[55296;1u",
        b"\x1b" * 300,
        b"\x00" * 300,
    ],
)
def test_noise_on_the_line_is_survived(tmp_path: Path, noise: bytes) -> None:
    with small_app(tmp_path) as terminal:
        terminal.send(noise)
        end = time.monotonic() + 10
        while terminal.poll() is None and time.monotonic() < end:
            # what was sent may swallow a key or two, and an open paste all keys until a second of silence
            terminal.press("q")
            with contextlib.suppress(AssertionError):
                terminal.wait_exit(1.5)
        assert terminal.poll() == 7, terminal.screen
        terminal.wait_exit()
        terminal.assert_given_back()


def test_a_huge_paste_arrives_cut_and_a_flood_of_keys_is_taken(tmp_path: Path) -> None:
    with small_app(tmp_path) as terminal:
        terminal.paste("p" * 1_000_000)
        terminal.until("pasted 65536", 20)
        terminal.send(b"x" * 20_000 + b"y", timeout=30)
        terminal.until("keys 20001 last y", 30)
        terminal.press("q")
        assert ends(terminal, 5) == 7


def test_random_bytes_are_survived(tmp_path: Path) -> None:
    rng = random.Random(7)
    keys = bytes(set(range(256)) - set(b"qbcfi\x11"))  # but not the keys that are to end it
    with small_app(tmp_path) as terminal:
        for _ in range(50):
            terminal.send(bytes(rng.choice(keys) for _ in range(100)), timeout=20)
        for _ in range(10):
            terminal.press("y")  # which an open paste or half an escape sequence takes with it, but not every time
            with contextlib.suppress(AssertionError):
                terminal.until("last y", 1.5)
                break
        terminal.signal(signal.SIGTERM)
        assert ends(terminal, 4) == 143
        terminal.assert_given_back()


def test_the_process_of_the_screen_looks_for_garbage_seldom(tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []

    def app(driver: object) -> GuardedApp[None]:
        found = SmallApp()
        found.run = lambda: seen.append(gc.get_threshold())  # type: ignore[method-assign,assignment,misc]
        return found

    before = gc.get_threshold()
    try:
        gc.set_threshold(700, 10, 10)
        assert run_app(app, tmp_path / "log") == 0
        assert seen == [THRESHOLDS]
    finally:
        gc.set_threshold(*before)
