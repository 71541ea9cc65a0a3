"""The arguments of the headless commands: read, checked and turned into a spec before anything heavy is loaded."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from workflow_core.errors import WorkflowError
from workflow_core.flags import FORMULAS, parsers
from workflow_core.sanitize import sanitize
from workflow_core.specs import (
    LOSS_USES,
    MODEL_USES,
    OPTIMIZER_USES,
    RANGE,
    SCHEDULER_USES,
    USES,
    Argument,
    DataSpec,
    ModelSpec,
    SaveKind,
    SplitSpec,
    TrainSpec,
    WorkflowSpec,
)

_NEGATIVE = re.compile(r"-(\d|\.\d|inf|nan)", re.IGNORECASE)
_PREDICT_VALUED = ("--model", "--model-arg", "--spec")
_SEEDS = ("data.seed", "data.x_seed", "split.seed", "init.seed", "train.batch_seed")
_DATA_USES = {kind: (*own, *(RANGE if kind in FORMULAS else ())) for kind, own in USES.items()}

Uses = Mapping[Any, tuple[str, ...]]
"""The settings that each kind of something has for itself."""


@dataclass(frozen=True)
class TrainOptions:
    """What `train` was asked for. `every` is None where the report is to choose; `print_spec` asks for nothing else.

    `detach` asks for a training by the engine of `workspace` (None: the default one).
    """

    spec: WorkflowSpec
    save: str | None
    kind: SaveKind
    overwrite: bool
    json: bool
    every: int | None
    print_spec: bool = False
    detach: bool = False
    workspace: str | None = None


@dataclass(frozen=True)
class PredictOptions:
    """What `predict` was asked for: all features of every row in `x`.

    `model` is the (file, class) that the user named for a model of their own, `arguments` what it is made with (none:
    what the file says), `spec` the settings of a bare state_dict.
    """

    file: str
    x: tuple[tuple[float, ...], ...]
    json: bool
    model: tuple[str, str] | None = None
    spec: WorkflowSpec | None = None
    arguments: Mapping[str, Argument] = field(default_factory=dict)


Options = TrainOptions | PredictOptions


def parse(argv: Sequence[str]) -> Options:
    """The options that `argv` (without the program's name) stands for.

    Raises SystemExit, with one sentence on stderr and status 2 for bad arguments, with status 0 after `--help`;
    WorkflowError where a file of settings cannot be read or does not fit.
    """
    parser, train = parsers()
    given = vars(parser.parse_args(_with_negative_numbers(argv)))
    if given.pop("command") == "predict":
        if "arguments" in given and "model" not in given:
            parser.error("--model-arg is an argument of a class of your own; it goes with --model FILE.py:Class")
        return _predict(given)
    base = read_spec(given.pop("spec")) if "spec" in given else WorkflowSpec()
    try:
        spec = _Given(given, train.flags).over(base)
    except ValueError as error:
        train.error(str(error))
    detach = given.get("detach", False)
    if detach and "save" in given:
        train.error("--save does not go with --detach: attach to the training, and save it there (w).")
    if detach and "every" in given:
        train.error("--every does not go with --detach: every epoch is recorded there.")
    if "workspace" in given and not detach:
        train.error("--workspace goes with --detach only.")
    return TrainOptions(
        spec=spec,
        save=given.get("save"),
        kind=given.get("save_kind", "state_dict"),
        overwrite=given.get("overwrite", False),
        json=given.get("json", False),
        every=given.get("every"),
        print_spec=given.get("print_spec", False),
        detach=detach,
        workspace=given.get("workspace"),
    )


def _predict(given: Mapping[str, Any]) -> PredictOptions:
    model = given.get("model")
    return PredictOptions(
        file=given["file"],
        x=tuple(given["x"]),
        json=given.get("json", False),
        model=None if model is None else (_absolute(model[0]), model[1]),
        spec=read_spec(given["spec"]) if "spec" in given else None,
        arguments=dict(given.get("arguments", ())),
    )


def read_spec(path: str) -> WorkflowSpec:
    """The settings in the TOML file `path`; files that they name relative to its folder are absolute then.

    Raises WorkflowError.
    """
    try:
        spec = WorkflowSpec.read(Path(path))
        folder = os.path.dirname(path)
        return replace(
            spec,
            data=replace(spec.data, file=_absolute(spec.data.file, folder)),
            model=replace(spec.model, file=_absolute(spec.model.file, folder)),
        )
    except WorkflowError as error:
        problem = error.problem
        named = problem.message if path in problem.message else f"{path}: {problem.message}"
        raise WorkflowError(problem.title, sanitize(named, 1000), problem.advice) from error
    except ValueError as error:  # a NUL in the path
        raise WorkflowError("Cannot read the settings", f"{sanitize(path)} cannot be read: {error}.") from error


def _absolute(file: str, folder: str = "") -> str:
    """`file` in a form that means the same wherever the settings go; no file stays none."""
    return os.path.abspath(os.path.join(folder, os.path.expanduser(file))) if file else ""


class _Given:
    """The settings that were given on the command line, and what they make of those of a file."""

    def __init__(self, given: Mapping[str, Any], flags: Mapping[str, str]) -> None:
        self._given = given
        self._flags = flags
        seeds = dict.fromkeys(_SEEDS, given["seed"]) if "seed" in given else {}
        self._settings = {**seeds, **given}

    def over(self, base: WorkflowSpec) -> WorkflowSpec:
        """`base` with these settings in their place. Raises ValueError."""
        return WorkflowSpec(data=self._data(base.data), model=self._model(base.model), train=self._train(base.train))

    def _part(self, section: str) -> dict[str, Any]:
        start = f"{section}."
        return {name[len(start) :]: value for name, value in self._settings.items() if name.startswith(start)}

    def _refuse(self, section: str, uses: Uses, kind: str, what: str, where: Callable[[list[str]], str]) -> None:
        """Raises ValueError for a flag whose setting belongs to other kinds; `where` says what chooses those.

        `--seed` is no such flag: it means whatever seeds there are.
        """
        for name in self._given:
            fitting = [each for each, own in uses.items() if name in (f"{section}.{setting}" for setting in own)]
            if fitting and kind not in fitting:
                raise ValueError(f"{self._flags[name]} does nothing for {what}; it goes with {where(fitting)}")

    def _data(self, base: DataSpec) -> DataSpec:
        sources = [name for name in ("data.kind", "data.sample", "data.file") if name in self._given]
        if len(sources) > 1:
            first, second = (self._flags[name] for name in sources[:2])
            raise ValueError(f"{first} and {second} both say where the data come from; give one of them")
        changes = self._part("data")
        if "file" in changes:
            changes |= {"kind": "table", "file": _absolute(changes["file"])}
        elif "sample" in changes:
            changes["kind"] = "sample"
        kind = changes.get("kind", base.kind)
        self._refuse("data", _DATA_USES, kind, f"{kind} data", _data_flag)
        return replace(base, **changes, split=self._split(base.split))

    def _split(self, base: SplitSpec) -> SplitSpec:
        changes = self._part("split")
        if "shuffle" in self._given:
            changes["order"] = "shuffled" if self._given["shuffle"] else "sequential"
        if "split" in self._given:
            shares = SplitSpec.parse(self._given["split"])
            changes |= {"train": shares.train, "validation": shares.validation, "test": shares.test}
        return replace(base, **changes)

    def _model(self, base: ModelSpec) -> ModelSpec:
        named = dict(self._given.get("model", {}))
        if "file" in named:
            named["file"] = _absolute(named["file"])
        kind = named.get("kind", base.kind)
        self._refuse("model", MODEL_USES, kind, f"the {kind} model", _model_flag)
        changes = self._part("model")
        # arguments in a file belong to the class that it names
        kept = base.arguments if all(getattr(base, name) == value for name, value in named.items()) else {}
        if kind == "custom":
            changes["arguments"] = {**kept, **dict(changes.get("arguments", ()))}
        init = replace(base.init, **self._given.get("init", {}), **self._part("init"))
        return replace(base, **named, **changes, init=init)

    def _train(self, base: TrainSpec) -> TrainSpec:
        changes = self._part("train")
        uses: dict[str, Uses] = {"optimizer": OPTIMIZER_USES, "scheduler": SCHEDULER_USES, "loss": LOSS_USES}
        for word, table in uses.items():
            kind = changes.get(word, getattr(base, word))
            what = "no scheduler" if kind == "none" else f"the {word} {kind}"
            self._refuse("train", table, kind, what, partial(_train_flag, word))
        if "min_delta" in changes and not changes.get("early_stop", base.early_stop):
            raise ValueError("--min-delta does nothing for a training that has no patience; it goes with --early-stop")
        return replace(base, **changes)


def _data_flag(kinds: Sequence[str]) -> str:
    flags = [flag for kind, flag in (("table", "--data"), ("sample", "--sample")) if kind in kinds]
    formulas = [kind for kind in kinds if kind in FORMULAS]
    return _either([*flags, *([f"--formula {_either(formulas)}"] if formulas else [])])


def _model_flag(kinds: Sequence[str]) -> str:
    return f"--model {_either(['FILE.py:Class' if kind == 'custom' else kind for kind in kinds])}"


def _train_flag(word: str, kinds: Sequence[str]) -> str:
    return f"--{word} {_either(kinds)}"


def _either(words: Sequence[str]) -> str:
    return " or ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def _with_negative_numbers(argv: Sequence[str]) -> list[str]:
    """The arguments in a form in which argparse takes -3e-2 and -1,2 for values, too; it knows -3 and -0.03 only.

    No flag begins as a number does. Those of `predict` are moved before its values, each with its own.
    """
    command, rest = list(argv[:1]), list(argv[1:])
    end = rest.index("--") if "--" in rest else len(rest)
    before, after = rest[:end], rest[end + 1 :]
    if command == ["train"]:
        joined: list[str] = []
        for text in before:
            if _NEGATIVE.match(text) and joined and joined[-1].startswith("--") and "=" not in joined[-1]:
                joined[-1] += f"={text}"
            else:
                joined.append(text)
        return command + joined + rest[end:]
    if command == ["predict"]:
        flags, values = _predict_flags(before)
        values += after
        return command + flags + (["--", *values] if values else [])
    return list(argv)


def _predict_flags(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    flags: list[str] = []
    values: list[str] = []
    for text in texts:
        if flags and flags[-1] in _PREDICT_VALUED:
            flags[-1] += f"={text}"
        elif text.startswith("-") and not _NEGATIVE.match(text):
            flags.append(text)
        else:
            values.append(text)
    return flags, values
