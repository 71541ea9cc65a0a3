"""`workflow-tui ls`, `stop`, `resume` and `train --detach`: what they take and what they say."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence

import msgspec

from workflow_core import remote
from workflow_core.errors import WorkflowError
from workflow_core.flags import Parser
from workflow_core.options import TrainOptions
from workflow_core.sanitize import padded, sanitize, width
from workflow_core.saying import OutputError, complain, json_line, output_failure, say
from workflow_core.standing import Standing, survey
from workflow_core.workspace import Workspace

PROGRAM = "workflow-tui"
HEADS = ("workspace", "engine", "run", "state", "epoch", "train", "val", "epochs/s")
NUMBERS = ("epoch", "train", "val", "epochs/s")
"""Columns that are set to the right."""
LONGEST = 40
"""Characters of a name."""


def main(argv: Sequence[str]) -> int:
    """Do `ls`, `stop` or `resume`, and return the exit status: 0 is done, 1 a failure, 2 bad usage."""
    try:
        return {"ls": _ls, "stop": _stop, "resume": _resume}[argv[0]](argv[1:])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except WorkflowError as error:
        return _refused(error, json="--json" in argv)
    except OutputError as stop:
        return output_failure(stop.error)
    except KeyboardInterrupt:
        return 130


def _refused(error: WorkflowError, *, json: bool) -> int:
    """Say why it was not done: to people, and with `json` to scripts as well. Raises OutputError."""
    complain(error.problem.line())
    if json:
        say(_told(error))
    return 1


def _told(error: WorkflowError) -> str:
    """What scripts read of it."""
    return json_line({"error": msgspec.structs.asdict(error.problem)})


def _ls(argv: Sequence[str]) -> int:
    parser = Parser(prog=f"{PROGRAM} ls", description="List workspaces and what runs in them.")
    parser.add_argument(
        "workspaces", metavar="NAME|DIR", nargs="*", default=[], help="these only (default: all that have a name)"
    )
    parser.add_argument("--json", action="store_true", default=False, help="one JSON object a line")
    given = parser.parse_args(argv)
    found, missing = list[Workspace](), list[WorkflowError]()
    for name in given.workspaces:
        try:
            found.append(Workspace.find(name))
        except WorkflowError as error:
            missing.append(error)
    standings = asyncio.run(survey(found if given.workspaces else Workspace.all()))
    if given.json:
        for standing in standings:
            say(json_line(msgspec.structs.asdict(standing)))
    elif standings:
        for line in table(standings):
            say(line)
    elif not missing:
        say(f"There is no workspace yet; `{PROGRAM}` makes the first one.")
    for each in missing:
        _refused(each, json=given.json)
    return 1 if missing else 0


def _stop(argv: Sequence[str]) -> int:
    parser = Parser(
        prog=f"{PROGRAM} stop",
        description="Finish the epoch under way, keep the run, and end the engine of a workspace.",
    )
    parser.add_argument("workspace", metavar="NAME|DIR", help="which one")
    parser.add_argument("--force", action="store_true", default=False, help="end it also where the run cannot be kept")
    parser.add_argument("--json", action="store_true", default=False, help="say how it stood as a JSON object")
    given = parser.parse_args(argv)
    workspace = Workspace.find(given.workspace)
    standing = asyncio.run(remote.stop(workspace, force=given.force))
    there = standing.run is not None or standing.race is not None
    if given.json:
        say(json_line(msgspec.structs.asdict(standing)))
    else:
        what = f"{_named(standing)} was {standing.state} after {_epochs(standing)}" if there else "There was no run"
        say(f"The engine of {sanitize(standing.name, LONGEST)} has ended. {what}.")
        if there and standing.keeps:
            name = _quoted(given.workspace)
            on = f", {PROGRAM} resume {name} goes on with it" if standing.state in ("running", "paused") else ""
            say(f"It is kept; {PROGRAM} attach {name} brings it back{on}.")
    if there and not standing.keeps:
        complain(f"{_named(standing)} could not be kept as it stood then: {workspace.log} says why.")
        return 1
    return 0


def _resume(argv: Sequence[str]) -> int:
    parser = Parser(
        prog=f"{PROGRAM} resume",
        description="Go on with the run or the race that a workspace has kept, without the app; returns at once.",
    )
    parser.add_argument("workspace", metavar="NAME|DIR", help="which one")
    parser.add_argument("--json", action="store_true", default=False, help="say how it stands as a JSON object")
    given = parser.parse_args(argv)
    standing = asyncio.run(remote.resume(Workspace.find(given.workspace)))
    if given.json:
        say(json_line(msgspec.structs.asdict(standing)))
        return 0
    for notice in standing.notices:
        complain(notice)
    name = _quoted(given.workspace)
    say(f"{_named(standing)} goes on, after {_epochs(standing)}.")
    if standing.again:
        say(f"{standing.again:,} epochs had been trained after what was kept last, and are trained again.")
    say(f"{PROGRAM} attach {name} looks at it, {PROGRAM} stop {name} ends it.")
    return 0


def detach(options: TrainOptions) -> int:
    """Begin a training in the engine of a workspace, and say how to come back to it."""
    try:
        workspace = Workspace.open(options.workspace)
        standing = asyncio.run(remote.start(workspace, options.spec))
    except WorkflowError as error:
        if options.json:
            say(_told(error))
        raise
    if options.json:
        say(json_line(msgspec.structs.asdict(standing)))
        return 0
    for notice in standing.notices:
        complain(notice)
    name = _quoted("default" if options.workspace is None else options.workspace)
    epochs = options.spec.train.epochs
    say(f"Run {standing.run} trains {epochs:,} epochs in workspace {sanitize(standing.name, LONGEST)}.")
    if standing.replaced is not None:
        say(f"Run {standing.replaced} gave way to it: its record stays, its weights were in no file.")
    say(f"{PROGRAM} attach {name} looks at it, {PROGRAM} stop {name} ends it.")
    return 0


def table(standings: Sequence[Standing]) -> list[str]:
    """The lines of a table, its heads first."""
    rows = [HEADS, *map(_row, standings)]
    rooms = [max(width(row[at]) for row in rows) for at in range(len(HEADS))]
    return [
        "  ".join(
            padded(text, room, right=head in NUMBERS) for text, room, head in zip(row, rooms, HEADS, strict=True)
        ).rstrip()
        for row in rows
    ]


def _row(standing: Standing) -> tuple[str, ...]:
    run = "" if standing.run is None else f"run {standing.run}"
    if standing.race is not None:
        best = "" if standing.best is None else f", best run {standing.best}"
        run = f"{run} of race {standing.race}" if run else f"race {standing.race}{best}"
    epoch = "" if standing.epoch is None else f"{standing.epoch:,} / {standing.epochs:,}"
    return (
        sanitize(standing.name, LONGEST),
        standing.engine,
        run,
        (standing.state or "-") + (", not kept" if standing.state and not standing.keeps else ""),
        epoch,
        _figure(standing.train_loss),
        _figure(standing.val_loss),
        "" if standing.rate is None else f"{standing.rate:,.0f}" if standing.rate >= 10 else f"{standing.rate:.2g}",
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _epochs(standing: Standing) -> str:
    return f"{standing.epoch or 0:,} of {standing.epochs or 0:,} epochs"


def _named(standing: Standing) -> str:
    return f"Run {standing.run}" if standing.race is None else f"Race {standing.race}"


def _quoted(name: str) -> str:
    """`name` as it is to be typed after a command."""
    return ("-- " if name.startswith("-") else "") + shlex.quote(sanitize(name, 4096))
