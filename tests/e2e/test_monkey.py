"""Two thousand random events: the program may refuse any of them, but must neither crash nor freeze."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.monkey import LEAVING, SIGNALS, Event, drive, events
from tests.e2e.terminal import Terminal

# a program that paints its size whenever that changes, leaves at q, and misbehaves at Z as its argument says
PROGRAM = """
import os, select, signal, sys, termios, time, tty
before = termios.tcgetattr(0)
tty.setraw(0)
os.write(1, b"\\x1b[?1049h")
paint = lambda *_: os.write(1, b"\\x1b[H%d columns" % os.get_terminal_size().columns)
read, write = os.pipe()
os.set_blocking(write, False)
signal.set_wakeup_fd(write)
signal.signal(signal.SIGWINCH, lambda *_: None)
paint()
while True:
    ready = select.select([0, read], [], [])[0]
    if read in ready:
        os.read(read, 100)
        paint()
    keys = os.read(0, 1000) if 0 in ready else b""
    if b"Z" in keys:
        MISDEED
    if b"q" in keys:
        break
os.write(1, b"\\x1b[?1049l")
termios.tcsetattr(0, termios.TCSANOW, before)
"""


def program(misdeed: str) -> Callable[[], Terminal]:
    return lambda: Terminal([sys.executable, "-I", "-S", "-c", PROGRAM.replace("MISDEED", misdeed)], flow_control=False)


def take(seed: int, count: int) -> list[Event]:
    return list(itertools.islice(events(seed), count))


def test_events_are_the_same_for_the_same_seed_only() -> None:
    assert take(5, 3000) == take(5, 3000)
    assert take(5, 3000) != take(6, 3000)


def test_every_kind_of_event_comes_and_none_drowns_the_others() -> None:
    kinds = Counter(event.kind for event in take(1, 2000))
    assert set(kinds) == {
        *("key", "text", "control", "raw", "half", "mouse", "paste", "resize", "leave", "cancel"),
    }
    assert all(20 <= count <= 1500 for kind, count in kinds.items() if kind not in ("leave", "cancel"))
    assert 2 <= kinds["leave"] <= 40


def test_some_input_is_not_utf_8() -> None:
    broken = [event for event in take(1, 2000) if event.data.decode("utf-8", "ignore").encode() != event.data]
    assert len(broken) > 40


def test_leaving_is_followed_by_a_cancel_and_no_slash_is_ever_typed() -> None:
    sequence = take(3, 20_000)
    for event, following in itertools.pairwise(sequence):
        assert (event.kind == "leave") == (following.kind == "cancel")
        if event.kind in ("key", "control", "raw"):
            assert not set(event.data) & {ord("q"), *SIGNALS}
        assert b"/" not in event.data
    assert {event.data for event in sequence if event.kind == "leave"} == set(LEAVING)


def test_a_program_that_leaves_in_order_is_started_again() -> None:
    journey = drive(program("pass"), seed=1, count=500, session=200)
    assert journey.events.total() == 500
    assert journey.ends > 0
    assert 0 < journey.slowest < 5


@pytest.mark.parametrize(
    ("misdeed", "complaint"),
    [
        ("os._exit(3)", "crashed with 3"),
        ("os.abort()", "crashed with -6"),
        ("print('Traceback (most recent call last)'); break", "printed a traceback"),
        ("sys.exit()", "not given back"),
        ("time.sleep(60)", "did not come within|no input for"),
        ("signal.signal(signal.SIGWINCH, signal.SIG_IGN)", "did not come within"),
    ],
)
def test_crashes_freezes_and_left_overs_are_noticed(misdeed: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=f"(?s)seed 2, after.*({complaint}).*the last events:\n  Event"):
        drive(program(misdeed), seed=2, count=5000, probe_every=10, patience=1.0)


def test_a_thousand_random_events(workspace: Path, tmp_path: Path) -> None:
    # names are typed and lists of files are walked: so far down that no number of steps up leads out of it
    home = tmp_path.joinpath(*"d" * 100)
    home.mkdir(parents=True)
    command = [str(Path(sys.executable).with_name("workflow-tui")), "--workspace", str(workspace)]
    environment: dict[str, str | None] = {"HOME": str(home), "XDG_STATE_HOME": str(home)}
    journey = drive(
        lambda: Terminal(command, env=environment, cwd=home, flow_control=False),
        seed=20_260,
        count=1200,
        log=workspace / "ui.log",
    )
    assert journey.events.total() == 1200
