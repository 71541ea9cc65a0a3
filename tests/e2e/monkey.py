"""Random input for a terminal program, by seed: what cats, bad links and other terminals send, and people too.

Plain noise would hardly ever get past the first screen, so it is made of gestures: somebody walks to a screen, opens a
dialog, types into a field, trains, clicks, pastes, changes the window's size, and now and then raw bytes arrive.

Keys that leave the program are followed by one that cancels; where it ends all the same, `drive` takes that for an
ordinary end if the status is 0 and the terminal was given back, and starts it again. No gesture has a slash in it:
paths that are typed stay below the folder the program was started in.
"""

from __future__ import annotations

import random
import re
import string
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.keys import NAMED, key_bytes
from tests.e2e.terminal import Terminal

ALTERNATE = 1049
LEAVING = (b"q", b"\x03", b"\x11")
SIZES = ((80, 24), (80, 24), (120, 40), (120, 40), (100, 30), (60, 18), (59, 17), (40, 10), (20, 5), (5, 2), (200, 60))
NUMBERS = (
    "0",
    "1",
    "42",
    "0.5",
    "-3",
    "1e308",
    "nan",
    "inf",
    "-",
    "1e",
    "99999999999999999999a",
    "0x10",
    "１２",
    "1_0",
)
WORDS = (
    "model.pt",
    "a",
    "[b",
    "[@click=app.quit]x",
    "\\",
    "..",
    ".",
    "x" * 300,
    "weights",
    "🙂",
    "e\u0301",
    "\u202eabc",
    "",
)
HALF_SEQUENCES = (
    *(b"\x1b", b"\x1b[", b"\x1bO", b"\x1b[<", b"\x1b[<0;5", b"\x1b[1;", b"\x1b]0;", b"\x1bP", b"\x1b[M", b"\x1b[200"),
    *(b"\x1b[?2026;1$", b"\x1b[<64;1;1", b"\x1b[27;", b"\x1b\x1b\x1b", b"\x1b[[", b"\x1b[I", b"\x1b[O", b"\x1b[1;1R"),
    *(b"\x1b[<99999;99999;99999M", b"\x1b[M\xff\xff\xff", b"\x1b[1;99A", b"\x1b[999~", b"\x1b[97;5u", b"\x1b[1114112u"),
    *(b"\xc3", b"\xe2\x82", b"\xf0\x9f\x99", b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"\x80", b"\xf5"),
)
PRINTABLE = "".join(sorted(set(string.printable) - set("/qQ\t\n\r\x0b\x0c")))
SIGNALS = (3, 17, 28)  # what a terminal itself acts on as soon as a program on its way out has given it back
RAW = bytes(sorted(set(range(256)) - {ord(c) for c in "/qQ"} - set(SIGNALS)))
_STYLE = re.compile(rb"\x1b\[[0-9;?<>]*[A-Za-z]")


@dataclass(frozen=True)
class Event:
    """One thing that happens: bytes that arrive, or a size the window gets; then a pause (seconds) of the hand."""

    kind: str
    data: bytes = b""
    size: tuple[int, int] | None = None
    pause: float = 0.0


@dataclass
class Journey:
    """What a drive went through."""

    events: Counter[str] = field(default_factory=Counter)
    ends: int = 0
    slowest: float = 0.0
    written: int = 0


def events(seed: int) -> Iterator[Event]:
    """Events without end, the same for the same seed."""
    chance = random.Random(seed)
    gestures: dict[Callable[[random.Random], Iterator[Event]], int] = {
        _walk: 20,
        _fill_in: 14,
        _open_dialog: 14,
        _train: 10,
        _keys: 14,
        _controls: 5,
        _raw: 6,
        _half: 6,
        _mouse: 12,
        _paste: 4,
        _resize: 5,
        _leave: 1,
    }
    while True:
        (gesture,) = chance.choices(list(gestures), list(gestures.values()))
        yield from gesture(chance)


def _key(*names: str) -> Iterator[Event]:
    for name in names:
        yield Event("key", key_bytes(name))


def _walk(chance: random.Random) -> Iterator[Event]:
    yield from _key(chance.choice("123456np123456"))


def _fill_in(chance: random.Random) -> Iterator[Event]:
    yield from _key(chance.choice(("i", "enter", "tab")))
    for _ in range(chance.randint(1, 6)):
        match chance.randrange(4):
            case 0:
                yield from _key(chance.choice(("tab", "shift+tab", "up", "down", "left", "right")))
            case 1:
                yield from _key(*["backspace"] * chance.randint(1, 6))
            case 2:
                yield Event("text", chance.choice(NUMBERS).encode())
            case _:
                yield from _key(chance.choice(("space", "enter", "delete", "end", "home")))
    yield from _key(chance.choice(("enter", "escape", "tab")))


def _open_dialog(chance: random.Random) -> Iterator[Event]:
    yield from _key(chance.choice(("w", "ctrl+s", "o", "ctrl+o", "x", "question_mark", "f1", "ctrl+p", "e", "f")))
    for _ in range(chance.randint(0, 5)):
        if chance.random() < 0.4:
            yield Event("text", chance.choice(WORDS).encode())
        else:
            yield from _key(chance.choice(("tab", "shift+tab", "up", "down", "pagedown", "space", "home", "end")))
    yield from _key(chance.choice(("enter", "enter", "escape", "escape", "y", "n")))


def _train(chance: random.Random) -> Iterator[Event]:
    yield from _key("3", *chance.choices(("space", "full_stop", "plus", "minus", "r"), k=chance.randint(1, 5)))


def _keys(chance: random.Random) -> Iterator[Event]:
    for _ in range(chance.randint(1, 4)):
        if chance.random() < 0.5:
            yield from _key(chance.choice(PRINTABLE))
            continue
        name = chance.choice(NAMED)
        if (
            name in ("up", "down", "left", "right", "home", "end", "delete", "f1", "f5", "f12")
            and chance.random() < 0.3
        ):
            name = f"{chance.choice(('shift', 'ctrl', 'alt'))}+{name}"
        yield from _key(name)


def _controls(chance: random.Random) -> Iterator[Event]:
    yield Event("control", bytes([chance.choice([code for code in range(32) if code not in SIGNALS])]))


def _raw(chance: random.Random) -> Iterator[Event]:
    yield Event("raw", bytes(chance.choices(RAW, k=chance.randint(1, 24))))


def _half(chance: random.Random) -> Iterator[Event]:
    yield Event("half", chance.choice(HALF_SEQUENCES))


def _mouse(chance: random.Random) -> Iterator[Event]:
    column, row = chance.randint(1, 130), chance.randint(1, 45)
    for _ in range(chance.randint(1, 3)):
        button = chance.choice((0, 0, 0, 1, 2, 32, 35, 64, 65, 4, 16))
        yield Event("mouse", f"\x1b[<{button};{column};{row}M".encode())
        if chance.random() < 0.3:
            column, row = chance.randint(1, 130), chance.randint(1, 45)
        yield Event("mouse", f"\x1b[<{button};{column};{row}m".encode())


def _paste(chance: random.Random) -> Iterator[Event]:
    text = chance.choice(
        ("0.5", "two\nlines\n", "tab\there", "x" * 5000, "[red]no markup[b", "\x1b[31m", "\x00\x07", "ünï©ödé 🙂")
    )
    end = b"" if chance.random() < 0.1 else b"\x1b[201~"
    yield Event("paste", b"\x1b[200~" + text.encode() + end)
    if not end:  # a paste that was cut off; its end comes late
        yield from _keys(chance)
        yield Event("paste", b"\x1b[201~")


def _resize(chance: random.Random) -> Iterator[Event]:
    yield Event("resize", size=chance.choice(SIZES))
    if chance.random() < 0.7:
        yield Event("resize", size=chance.choice(((80, 24), (120, 40))))


def _leave(chance: random.Random) -> Iterator[Event]:
    yield Event("leave", chance.choice(LEAVING), pause=0.05)
    yield Event("cancel", b"\x1b", pause=0.15)  # longer than a terminal program waits for the rest of a sequence


def drive(
    start: Callable[[], Terminal],
    seed: int,
    count: int,
    *,
    probe_every: int = 10,
    patience: float = 5.0,
    session: int = 1000,
    log: Path | None = None,
) -> Journey:
    """Send `count` events to the program that `start` starts, and start it again where it ends in an orderly way.

    Input begins when something stands on the alternate screen.
    Every `probe_every` events a change of the window's size must be answered by some output within `patience` seconds.
    After `session` events the line is lost, which must end the program as well, and it is started anew.
    AssertionError where it crashes, freezes or leaves the terminal changed, with the last events, the screen and the
    end of the program's `log`. `start` should start it without flow control: a ctrl+s that arrives just after a program
    on its way out has given the terminal back would stop its last words.
    """
    journey, source = Journey(), events(seed)
    recent: deque[Event] = deque(maxlen=40)
    sent = 0
    while sent < count:
        with start() as terminal:
            try:
                terminal.until(_painted(terminal), timeout=20.0)
                sent += _session(terminal, source, recent, journey, min(session, count - sent), probe_every, patience)
            except AssertionError as error:
                last = "\n".join(f"  {event}" for event in recent)
                when = f"seed {seed}, after {journey.events.total()} events"
                raise AssertionError(f"{when}: {error}\n{_end_of(log)}the last events:\n{last}") from error
            journey.written += terminal.written
    return journey


def _session(
    terminal: Terminal,
    source: Iterator[Event],
    recent: deque[Event],
    journey: Journey,
    count: int,
    probe_every: int,
    patience: float,
) -> int:
    """Send up to `count` events to one run of the program; gives how many went out before it ended."""
    for number in range(1, count + 1):
        event = next(source)
        recent.append(event)
        journey.events[event.kind] += 1
        try:
            if event.size:
                terminal.resize(*event.size)
            else:
                terminal.send(event.data, timeout=patience)
            if event.pause:
                time.sleep(event.pause)
            if number % probe_every == 0 or number == count or event.kind == "cancel":
                journey.slowest = max(journey.slowest, probe(terminal, patience))
        except AssertionError:
            if terminal.poll() is None and ALTERNATE in terminal.modes:
                raise
        if ALTERNATE not in terminal.modes:  # it is on its way out, and may have to say what went wrong
            terminal.wait_exit(3 * patience)
        if terminal.poll() is not None:
            _check_end(terminal)
            journey.ends += 1
            return number
    terminal.hang_up()
    terminal.wait_exit(patience)
    return count


def _end_of(log: Path | None) -> str:
    if log is None or not log.exists():
        return ""
    return f"the end of {log.name}:\n{log.read_text(errors='replace')[-6000:]}\n"


def _painted(terminal: Terminal) -> Callable[[str], bool]:
    return lambda screen: ALTERNATE in terminal.modes and bool(screen.strip())


def probe(terminal: Terminal, patience: float) -> float:
    """Change the window's width by one and wait for an answer; gives the seconds it took. AssertionError if none."""
    began, before = time.monotonic(), terminal.written
    columns, rows = terminal.size
    terminal.resize(columns + 1, rows)
    terminal.until_written(before, patience)
    terminal.resize(columns, rows)
    return time.monotonic() - began


def _check_end(terminal: Terminal) -> None:
    status = terminal.wait_exit()
    said = _STYLE.sub(b"", bytes(terminal.output))[-4000:].decode(errors="replace")
    assert status == 0, f"the program crashed with {status}; its last words:\n{said}"
    assert b"Traceback" not in terminal.output, f"the program printed a traceback:\n{said}"
    terminal.assert_given_back()
