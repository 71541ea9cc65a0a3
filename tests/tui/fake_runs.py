"""Kept runs for tests, and a replayed engine that keeps them: what is asked about runs is carried out in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace
from tests.tui.replay import ReplayClient

from workflow_core.errors import WorkflowError
from workflow_core.history import Series
from workflow_core.protocol import (
    Answer,
    Command,
    DeleteRuns,
    EditRun,
    Event,
    ReadSeries,
    RestoreRun,
    RunView,
    SeriesAnswer,
    Update,
)
from workflow_core.specs import DataSpec, ModelSpec, TrainSpec, WorkflowSpec

BEGUN = 1_700_000_000.0
HOSTILE = "[/]\x1b[31m[@click=app.quit]幅\u202eb"
"""A name that would break markup, colour the terminal, act on a click, take two columns a character and turn round."""


def kept(number: int, **changes: Any) -> RunView:
    """Run `number` of the course's example, changed; `train`, `model` and `data` are settings that differ."""
    spec = WorkflowSpec(
        train=TrainSpec(**changes.pop("train", {})),
        model=ModelSpec(**changes.pop("model", {})),
        data=DataSpec(**changes.pop("data", {})),
    )
    epochs = changes.get("epochs", spec.train.epochs)
    loss = 0.0036 * (1 + number % 7)
    found: dict[str, Any] = {
        "name": "",
        "begun": BEGUN + 60 * number,
        "elapsed": 5.0 + number,
        "state": "finished",
        "epochs": epochs,
        "train_loss": loss,
        "val_loss": 5 * loss,
        "best_epoch": epochs - 1,
        "best_loss": 5 * loss,
        "parameters": {"weight": 0.44, "bias": 0.36},
    } | changes
    return RunView(run=number, spec=spec, **found)


def several() -> tuple[RunView, ...]:
    """Six runs with everything a table has to show, newest first."""
    return (
        kept(6, train={"epochs": 500}, epochs=120, state="interrupted", reason="the engine ended before the run did"),
        kept(5, train={"optimizer": "adam", "batch_size": 32}, name="adam in batches", lr_changes=((40, 0.005),)),
        kept(
            4,
            train={"learning_rate": 2.0},
            epochs=38,
            state="diverged",
            reason="the run diverged: train_loss became NaN in epoch 37",
            train_loss=math.nan,
            val_loss=math.inf,
            best_epoch=0,
            best_loss=0.9,
        ),
        kept(3, train={"learning_rate": 0.1}, name="fast", parent=1, parent_epoch=50),
        kept(2, pinned=True, data={"noise": 0.05, "seed": 7}, state="stopped", reason="stopped by hand", epochs=70),
        kept(1),
    )


def many(count: int) -> tuple[RunView, ...]:
    """So many runs of all kinds, newest first."""
    runs = (
        kept(
            number,
            train={
                "learning_rate": 0.001 * (1 + number % 50),
                "optimizer": ("sgd", "adam", "rmsprop")[number % 3],
                "batch_size": (0, 0, 32, 16)[number % 4],
            },
            name=f"trial {number}" if number % 5 == 0 else "",
            pinned=number % 97 == 0,
        )
        for number in range(count, 0, -1)
    )
    return tuple(runs)


def keeping(runs: Iterable[RunView]) -> Callable[[ReplayClient], None]:
    """What gives a replayed engine these runs, and lets it name, pin, delete, restore and read them."""

    def change(client: ReplayClient) -> None:
        held = {run.run: run for run in runs}
        client.start.append(Update(runs=tuple(held.values())))
        replayed = client.request

        async def request(command: Command, timeout: float | None = None) -> Answer:
            answer = await replayed(command, timeout)
            event, value = _done(command, held)
            if event is not None:
                client.on_event(event)
            return answer if value is None else value

        client.request = request  # type: ignore[method-assign]

    return change


def _done(command: Command, held: dict[int, RunView]) -> tuple[Event | None, Answer]:
    numbers = command.runs if isinstance(command, DeleteRuns) else (getattr(command, "run", None),)
    if isinstance(command, DeleteRuns | EditRun | RestoreRun | ReadSeries) and not held.keys() >= set(numbers):
        raise WorkflowError("No such run", "it is not kept any more.")
    match command:
        case EditRun(run=number, name=name, pinned=pinned):
            run = held[number]
            held[number] = replace(
                run, name=run.name if name is None else name, pinned=run.pinned if pinned is None else pinned
            )
        case DeleteRuns(runs=numbers):
            for number in numbers:
                del held[number]
        case RestoreRun(run=number):
            spec = held[number].spec
            return Update(data_spec=spec.data, model_spec=spec.model, train_spec=spec.train), None
        case ReadSeries(run=number):
            return None, answer(held[number], command)
        case _:
            return None, None
    return Update(runs=tuple(held.values())), None


def answer(run: RunView, command: ReadSeries) -> SeriesAnswer:
    """Losses that fall by a fortieth an epoch, a weight and a bias that rise to 0.7 and 0.3; NaN where it diverged."""
    epochs = [float(epoch) for epoch in range(run.epochs)]
    shapes: dict[str, Callable[[float], float]] = {
        "train_loss": lambda epoch: 0.1 * math.exp(-epoch / 40) + 0.001,
        "val_loss": lambda epoch: 0.3 * math.exp(-epoch / 40) + 0.002,
        "learning_rate": lambda epoch: run.spec.train.learning_rate,
        "grad_norm": lambda epoch: math.exp(-epoch / 40),
        "weight": lambda epoch: 0.7 - 0.4 * math.exp(-epoch / 30),
        "bias": lambda epoch: 0.3 - 0.2 * math.exp(-epoch / 10),
    }
    found = {}
    for name, shape in shapes.items():
        series = Series()
        series.extend([shape(epoch) for epoch in epochs])
        if run.state == "diverged":
            series.last[-1] = series.first[-1] = math.nan
        found[name] = series.columns(command.columns, command.start, command.stop)
    return SeriesAnswer(run=run.run, start=command.start, stop=command.stop, epochs=run.epochs, series=found)
