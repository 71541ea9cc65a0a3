"""The harness must see what a person at a terminal sees, or the tests that stand on it prove nothing."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.emulator import Emulator
from tests.e2e.keys import NAMED, key_bytes
from tests.e2e.processes import end_processes_of, processes_of, until_no_processes_of
from tests.e2e.terminal import Terminal


def shell(script: str, size: tuple[int, int] = (40, 8), env: dict[str, str | None] | None = None) -> Terminal:
    return Terminal(["sh", "-c", script], size=size, env=env)


def python(program: str) -> Terminal:
    return Terminal([sys.executable, "-I", "-S", "-c", program], size=(40, 8))


def test_what_a_program_prints_stands_on_the_screen_and_its_status_is_known() -> None:
    with shell("printf 'one\\ntwo'; exit 7") as terminal:
        assert terminal.wait_exit() == 7
        assert terminal.screen.splitlines()[:2] == ["one", "two"]
        assert terminal.cursor == (3, 1)
        assert terminal.meter() == len("one\r\ntwo")
        assert terminal.meter() == 0
        terminal.assert_given_back()


def test_much_output_is_complete_when_the_program_has_ended() -> None:
    with shell("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done") as terminal:
        assert terminal.wait_exit() == 0
        assert "line 2999" in terminal.screen
        assert terminal.output.count(b"\n") == 3000


def test_keys_arrive_as_a_terminal_sends_them() -> None:
    keys = ("a", "space", "up", "f1", "f5", "shift+tab", "ctrl+left", "alt+x", "ctrl+s", "question_mark", "escape")
    program = "stty raw -echo; printf ready; dd bs=1 count=31 2>/dev/null | od -An -tx1 -w31"
    with shell(program, size=(110, 8)) as terminal:
        terminal.until("ready")
        terminal.press(*keys)
        wanted = b"a \x1b[A\x1bOP\x1b[15~\x1b[Z\x1b[1;5D\x1bx\x13?\x1b"
        terminal.send(b"." * (31 - len(wanted)))
        terminal.until(" ".join(f"{byte:02x}" for byte in wanted))


def test_every_named_key_has_bytes_of_its_own() -> None:
    assert len({key_bytes(name) for name in NAMED}) == len(NAMED)
    assert key_bytes("full_stop") == b"."
    assert key_bytes("plus") == b"+"
    for name in ("hyper+x", "no_such_key", "ctrl+1"):
        with pytest.raises((ValueError, KeyError)):
            key_bytes(name)


def test_waiting_in_vain_says_what_stood_there_instead() -> None:
    with shell("printf 'something else'; read x") as terminal:
        terminal.until("something")
        with pytest.raises(
            AssertionError, match=r"'the answer' did not come within 0\.1 s \(running\)(.|\n)*something"
        ):
            terminal.until("the answer", timeout=0.1)
        terminal.type("x\n")
        with pytest.raises(AssertionError, match="ended before 'the answer'"):
            terminal.until("the answer")


def test_until_takes_patterns_and_predicates() -> None:
    with shell("printf 'loss 0.0311'; read x") as terminal:
        assert "0.0311" in terminal.until(re.compile(r"loss \d\.\d+"))
        terminal.until(lambda screen: screen.startswith("loss"))
        assert terminal.modes == {7, 25}


def test_a_resize_reaches_the_program_and_the_screen() -> None:
    with shell("trap 'stty size' WINCH; printf ready; while :; do read x; done") as terminal:
        terminal.until("ready")
        terminal.resize(60, 20)
        terminal.until("20 60")
        assert terminal.screen.count("\n") == 20 - 1


def test_signals_and_hang_ups_end_a_program() -> None:
    with shell("printf ready; exec sleep 60") as terminal:
        terminal.until("ready")
        terminal.signal(signal.SIGTERM)
        assert terminal.wait_exit() == -signal.SIGTERM
    with shell("printf ready; exec sleep 60") as terminal:
        terminal.until("ready")
        terminal.hang_up()
        assert terminal.wait_exit() == -signal.SIGHUP


def test_a_program_that_tidies_up_shows_its_words_on_the_main_screen_again() -> None:
    on = r"printf 'before\033[?1049h\033[?25l\033[?1000;1006h\033[?2004h\033[>1u\033[>4;2mwithin'; read x;"
    off = r"printf '\033[<u\033[>4;0m\033[?2004l\033[?1000;1006l\033[?25h\033[?1049l after'"
    with shell(on + off) as terminal:
        terminal.until("within")
        assert "before" not in terminal.screen
        assert {1049, 1000, 1006, 2004} <= terminal.modes
        assert 25 not in terminal.modes
        assert len(terminal.leftovers()) == 6
        terminal.press("enter")
        assert terminal.wait_exit() == 0
        assert "within" not in terminal.screen
        assert "before after" in terminal.screen
        terminal.assert_given_back()


@pytest.mark.parametrize(
    ("program", "complaint"),
    [
        (r"printf '\033[?1049h'", "the alternate screen stands"),
        (r"printf '\033[?25l'", "the cursor is hidden"),
        (r"printf '\033[?1003h'", "the mouse is reported"),
        (r"printf '\033[?2004h'", "pastes are bracketed"),
        (r"printf '\033[?7l'", "mode 7 is off"),
        (r"printf '\033[>1u\033[>1u\033[<u'", "kitty keyboard"),
        (r"printf '\033[>4;1m'", "modified keys"),
        (r"printf '\033[31m'", "another style"),
        ("stty -echo", "tty lflag"),
        ("stty intr x", "tty cc"),
    ],
)
def test_whatever_is_left_changed_is_named(program: str, complaint: str) -> None:
    with shell(program) as terminal:
        assert terminal.wait_exit() == 0
        with pytest.raises(AssertionError, match=complaint):
            terminal.assert_given_back()


def test_a_terminal_that_does_not_read_holds_the_program_up() -> None:
    with shell("printf ready; read x; yes | head -c 40000; printf done") as terminal:
        terminal.until("ready")
        with terminal.not_reading():
            terminal.press("enter")
            with pytest.raises(AssertionError, match="did not come"):
                terminal.until("done", timeout=0.2)
            assert terminal.poll() is None
        terminal.until("done")


def test_ctrl_s_stops_the_output_where_there_is_flow_control() -> None:
    for flow_control in (True, False):
        with Terminal(["sh", "-c", "printf ready; read x; printf done"], flow_control=flow_control) as terminal:
            terminal.until("ready")
            terminal.press("ctrl+s", "enter")
            if flow_control:
                with pytest.raises(AssertionError, match="did not come"):
                    terminal.until("done", timeout=0.2)
                terminal.press("ctrl+q")
            terminal.until("done")
            assert terminal.wait_exit() == 0
            terminal.assert_given_back()


def test_a_program_that_does_not_read_is_noticed() -> None:
    program = "import termios, time, tty; tty.setraw(0); print('ready', flush=True); time.sleep(60)"
    with python(program) as terminal:
        terminal.until("ready")
        with pytest.raises(AssertionError, match=r"no input for 0\.1 s"):
            terminal.send(b"x" * 100_000, timeout=0.1)


def test_sequences_that_the_emulator_does_not_draw_leave_no_trace() -> None:
    odd = (
        b"\x1b[>1u\x1b[<u\x1b[?u\x1b[>4;1m\x1b[>4m\x1b[?2026h\x1b[?2026l\x1b[?2026$p\x1b[c\x1b[>c\x1b[4:3m"
        b"\x1b[2 q\x1b]52;c;aGk=\x07\x1b]0;title\x1b\\\x1bP+q544e\x1b\\\x1b_Gi=1;AAAA\x1b\\\x1b=\x1b>\x1b F\x1b\\"
    )
    text = "Größe: ∂w ● ".encode()
    stream = b"\x1b[2;3H" + odd + text + odd + b"end"
    for size in (1, 2, 3, 7, len(stream)):
        emulator = Emulator(40, 4)
        for at in range(0, len(stream), size):
            emulator.feed(stream[at : at + size])
        assert emulator.lines == ["", "  Größe: ∂w ● end", "", ""]
        assert emulator.leftovers() == []
        assert emulator.title == "title"
        assert b"52;c;aGk=" in emulator.commands


def test_a_broken_sequence_does_not_swallow_the_rest() -> None:
    emulator = Emulator(40, 2)
    emulator.feed(b"\x1b\x1b[1mbold\x1b[0m \x1b[\x07then\x1b")
    emulator.feed(b"[31mred\x1b[0m")
    assert "bold" in emulator.lines[0]
    assert emulator.lines[0].endswith("red")


def test_processes_are_found_by_their_workspace_and_ended(workspace: Path) -> None:
    neighbour = workspace.with_name(workspace.name + "0")
    sleeps = "import time; print(flush=True); time.sleep(60)"
    program = [sys.executable, "-I", "-S", "-c", sleeps, "--workspace"]
    mine, other = (
        subprocess.Popen([*program, str(where)], start_new_session=True, stdout=subprocess.PIPE)
        for where in (workspace, neighbour)
    )
    try:
        for each in (mine, other):  # the name of a process comes a moment after itself
            assert each.stdout is not None
            assert each.stdout.readline() == b"\n"
        assert set(processes_of(workspace)) == {mine.pid}
        with pytest.raises(AssertionError, match="stayed behind"):
            until_no_processes_of(workspace, timeout=0.05)
        assert set(end_processes_of(workspace)) == {mine.pid}
        assert mine.wait(5) == -signal.SIGTERM
        until_no_processes_of(workspace)
        assert other.poll() is None
    finally:
        for process in (mine, other):
            process.kill()
            process.communicate()


def test_a_shell_is_usable_in_it() -> None:
    with Terminal(["sh", "-i"], size=(40, 8), env={"PS1": "> ", "ENV": None}) as terminal:
        terminal.until(lambda screen: screen.startswith(">"))
        terminal.type("echo $((6*7))\n")
        terminal.until("42")
        terminal.press("ctrl+d")
        assert terminal.wait_exit() == 0
        terminal.assert_given_back()
