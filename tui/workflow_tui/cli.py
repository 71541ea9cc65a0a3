"""The console command: answers help and refusals at once, and starts the engine before it loads the app."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from typing import IO, NoReturn

from workflow_core import __version__

PROGRAM = "workflow-tui"
COMMANDS = {
    "train": "train without the app: plain lines or JSON, for scripts and pipes",
    "predict": "load a saved file and predict",
    "ls": "list workspaces and what runs in them",
    "attach": "open the app on a workspace that is there",
    "stop": "finish the epoch, keep the run, end the engine of a workspace",
    "resume": "go on with the run that a workspace has kept, without the app",
}
HEADLESS = ("train", "predict")
OPTIONS = ["--help", "--version", "--workspace", "--device", "--theme"]
MIN_COLUMNS, MIN_ROWS = 20, 5
FAILURE, USAGE, INTERRUPTED = 1, 2, 130

_EPILOG = "commands:\n" + "\n".join(
    [f"  {name:<10} {text}" for name, text in COMMANDS.items()]
    + ["", f"`{PROGRAM} train --help` lists what a command takes."]
)


class _Parser(argparse.ArgumentParser):
    """Refuses in one line, and suggests what may have been meant."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        raise SystemExit(_refuse(message[:1].upper() + message[1:]))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (without the program's name; None takes the process's own) and return the exit status.

    0 is done, 1 a failure, 2 bad usage or no terminal, 128 + N an app that signal N ended.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in HEADLESS:
        _headless(arguments)
    if arguments and arguments[0] in ("ls", "stop", "resume"):
        from workflow_core import remote_commands

        return remote_commands.main(arguments)
    try:
        given = _attach(arguments[1:]) if arguments and arguments[0] == "attach" else _parse(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    if given.json:
        from workflow_core import remote_commands

        return remote_commands.main(["ls", "--json", "--", given.workspace])
    if (refusal := _terminal_problem()) is not None:
        return _refuse(refusal)
    try:
        return _run(given)
    except KeyboardInterrupt:
        return INTERRUPTED


def _headless(arguments: list[str]) -> NoReturn:
    """Become the headless program: this package never loads torch. -P keeps the current folder off its path."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "workflow_core.headless", *arguments])


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog=PROGRAM,
        description="The PyTorch workflow (data, build, train, evaluate, save, load) in six terminal screens.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    parser.add_argument(
        "--workspace",
        metavar="NAME|DIR",
        help="where the engine and its files live: a name, or a folder (anything with a slash)",
    )
    parser.add_argument("--device", metavar="DEVICE", help="auto, cpu, mps, cuda or cuda:N (default: auto)")
    parser.add_argument("--theme", metavar="THEME", help="dark or light (default: dark)")
    given, rest = parser.parse_known_args(arguments)
    if rest:
        parser.error(_unknown(rest[0]))
    given.exists = given.json = False
    _check_theme(parser, given.theme)
    if given.device is not None and (refusal := _device_problem(given.device)) is not None:
        parser.error(f"{refusal}.")
    return given


def _attach(arguments: list[str]) -> argparse.Namespace:
    parser = _Parser(
        prog=f"{PROGRAM} attach", description="Open the app on a workspace that is there.", allow_abbrev=False
    )
    parser.add_argument("workspace", metavar="NAME|DIR", help="which one; `ls` lists them")
    parser.add_argument(
        "--json", action="store_true", help="no screens: say how it stands as a JSON object, as `ls` does"
    )
    parser.add_argument("--theme", metavar="THEME", help="dark or light (default: dark)")
    given, rest = parser.parse_known_args(arguments)
    if rest:
        parser.error(_unknown(rest[0]))
    _check_theme(parser, given.theme)
    given.device, given.exists = None, True
    return given


def _check_theme(parser: _Parser, theme: str | None) -> None:
    if theme is not None and theme not in ("dark", "light"):
        parser.error(f"the theme {theme!r} is not known; choose dark or light.")


def _unknown(argument: str) -> str:
    """What to say to an argument that means nothing here."""
    if argument in COMMANDS:
        return f"options of the app do not go with {argument!r}; write {PROGRAM} {argument} first."
    if argument.startswith("-"):
        name = argument.partition("=")[0]
        return f"there is no option {name!r}{_near(name, OPTIONS)}"
    return f"there is no command {argument!r}{_near(argument, [*COMMANDS])}"


def _near(word: str, words: list[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(word[:40], words, n=1)
    return f"; did you mean {near[0]}?" if near else f"; {PROGRAM} --help lists what there is."


def _device_problem(text: str) -> str | None:
    from workflow_core.specs import parse_device  # help and version answer without msgspec

    try:
        parse_device(text)
    except ValueError as error:
        return str(error)
    return None


def _terminal_problem() -> str | None:
    """Why no app can run here, as one sentence; None where it can."""
    streams: list[tuple[str, IO[str] | None]] = [
        ("input", sys.stdin),
        ("output", sys.stdout),
        ("error", sys.stderr),
    ]
    for name, stream in streams:
        if not _is_terminal(stream):
            return (
                f"The app needs a terminal, and standard {name} is none; `{PROGRAM} train` does the same without one."
            )
    if os.environ.get("TERM") in ("dumb", "unknown"):
        return (
            f"The app cannot draw on a terminal of type {os.environ['TERM']} (TERM); "
            f"`{PROGRAM} train` does the same without drawing."
        )
    columns, rows = shutil.get_terminal_size()
    if columns < MIN_COLUMNS or rows < MIN_ROWS:
        return (
            f"The terminal has {columns} columns and {rows} rows; the app needs at least "
            f"{MIN_COLUMNS} and {MIN_ROWS}, and shows everything at 80 and 24."
        )
    return None


def _is_terminal(stream: IO[str] | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def _run(given: argparse.Namespace) -> int:
    from workflow_core import sockets
    from workflow_core.errors import WorkflowError
    from workflow_core.launcher import launch
    from workflow_core.workspace import Workspace
    from workflow_tui.terminal import environment
    from workflow_tui.terminal.garbage import look_seldom

    try:
        os.getcwd()
    except OSError:
        return _refuse("The current folder has been removed; go to one that exists and start again.", FAILURE)
    try:
        if given.exists:
            Workspace.find(given.workspace)
        workspace = Workspace.open(given.workspace)
        training = workspace.kept_run.exists() and sockets.answers(workspace.socket)
        launch(workspace)  # torch takes seconds to load: the engine does that while textual is imported here
        environment.prepare(os.environ)
        look_seldom()  # also while modules are read, and once more when they are there to stay
        from workflow_tui.app import run

        return run(workspace, asked=given.workspace, theme=given.theme, device=given.device, training=training)
    except WorkflowError as error:
        return _refuse(error.problem.line(), FAILURE)


def _refuse(message: str, status: int = USAGE) -> int:
    """Say one sentence on stderr, where there is one."""
    from workflow_core.saying import complain

    complain(message)
    return status


if __name__ == "__main__":
    sys.exit(main())
