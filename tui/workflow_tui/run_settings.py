"""The settings of runs as people read them: what a run has that others have not, and what changes between two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from workflow_core.sanitize import sanitize
from workflow_core.specs import LINES, TrainSpec, WorkflowSpec
from workflow_tui import figures
from workflow_tui.settings import build, data, train
from workflow_tui.widgets.field import Field, Value, Values

LONGEST = 200
"""Characters of a setting's value that are shown."""
LR, OPTIMIZER, LOOP, DATA = "train.learning_rate", "train.optimizer", "train.loop", "data.kind"
SUMMARY = ("train.loss", "train.epochs", "train.batch_size", "model.kind", DATA)
"""The settings that say what a run was, beside rate, optimizer and what is special in it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its `label` and its exact `value`, for where both have room, and the `phrase` that says it alone.

    It is not `used` where it does nothing beside the others, such as the momentum of Adam.
    """

    label: str
    value: str
    phrase: str
    used: bool = True


Settings = Mapping[str, Setting]
"""All settings of a run by part and name, such as `train.learning_rate`: the training's, the model's, the data's."""


def settings_of(spec: WorkflowSpec) -> Settings:
    """Every setting of `spec` as people read it."""
    parts: tuple[tuple[str, Sequence[Field], Values], ...] = (
        ("train", train.FIELDS, train.values(spec.train)),
        ("model", build.FIELDS, build.values(spec.model)),
        ("data", data.FIELDS, data.values(spec.data)),
    )
    found = {
        f"{part}.{field.name}": _setting(f"{part}.{field.name}", field, values)
        for part, fields, values in parts
        for field in fields
    }
    text = loop_text(spec.train)
    return found | {LOOP: Setting("loop", text, text, spec.train.experiment)}


_PHRASES: dict[str, str] = {
    LR: "lr {}",
    OPTIMIZER: "{}",
    "train.epochs": "{} epochs",
    "train.loss": "{}",
    "train.scheduler": "schedule {}",
    "model.kind": "{}",
    "model.init": "weights {}",
    "model.weight": "initial weight {}",
    "model.bias": "initial bias {}",
    "model.values": "initial {}",
    "data.kind": "{}",
    "data.sample": "{}",
    "data.weight": "true weight {}",
    "data.bias": "true bias {}",
    "data.start": "x from {}",
    "data.stop": "x to {}",
    "data.step": "x step {}",
    "data.spacing": "x {}",
    "data.order": "{} split",
    "data.dtype": "{}",
}
_LABELS: dict[str, str] = {
    "model.init": "weights at the start",
    "model.weight": "initial weight",
    "model.bias": "initial bias",
    "model.values": "initial values",
    "model.file": "model file",
    "data.weight": "true weight",
    "data.bias": "true bias",
    "data.start": "x from",
    "data.stop": "x to",
    "data.step": "x step",
    "data.file": "table",
}
"""Labels that a form's own heading explains, and a list of all settings does not."""


def _setting(key: str, field: Field, values: Values) -> Setting:
    value = values[field.name]
    exact, brief = _texts(field, value)
    label = _LABELS.get(key, field.label)
    phrase = _PHRASES.get(key, f"{label} {{}}").replace("{}", brief)
    if key == "train.batch_size":
        exact, phrase = ("all rows", "all rows") if not value else (exact, f"batch {exact}")
    elif key == "data.standardize":
        phrase = "standardised" if value else "not standardised"
    elif key == DATA and value == "sample":
        phrase = data.SAMPLE_NAMES[values["sample"]]  # type: ignore[index]
    return Setting(label, exact, phrase, field.shown(values))


def _texts(field: Field, value: Value) -> tuple[str, str]:
    """The value in full, and as short as a table says it."""
    if isinstance(value, bool) or not isinstance(value, float | int):
        text = sanitize(field.empty or "none" if value in (None, "", ()) else field.said(value), LONGEST)
        return text, text
    if isinstance(value, int):
        return (figures.whole(value),) * 2
    return field.said(value), figures.short(value)


def loop_text(spec: TrainSpec) -> str:
    """What is unlike the textbook in a loop: lines switched off or moved, an optimizer of another model."""
    off = [line for line in LINES if line not in spec.loop]
    parts = [f"without {', '.join(off)}"] if off else []
    if list(spec.loop) != [line for line in LINES if line in spec.loop]:
        parts.append(f"order {', '.join(spec.loop)}")
    if spec.optimizer_over != "model":
        parts.append("optimizer of another model")
    return "; ".join(parts) or "as in the textbook"


def rate_phrase(settings: Settings, lr_changes: Sequence[tuple[int, float]]) -> str:
    """The learning rate of a run, and what became of it by hand."""
    phrase = settings[LR].phrase
    if not lr_changes:
        return phrase
    epoch, rate = lr_changes[-1]
    more = f", {len(lr_changes) - 1} before it" if len(lr_changes) > 1 else ""
    return f"{phrase}, {figures.short(rate)} from epoch {figures.whole(epoch)}{more}"


def common(runs: Iterable[Settings]) -> dict[str, str]:
    """The value that most runs have of each setting; of equally many the program's own."""
    counts: dict[str, Counter[str]] = {}
    for settings in runs:
        for key, setting in settings.items():
            counts.setdefault(key, Counter())[setting.value] += 1
    own = settings_of(WorkflowSpec())
    return {key: max(counter, key=_preferring(counter, own[key].value)) for key, counter in counts.items()}


def _preferring(counter: Counter[str], own: str) -> Callable[[str], tuple[int, bool]]:
    return lambda value: (counter[value], value == own)


def _special(settings: Settings, usual: Mapping[str, str]) -> list[str]:
    # a loop that is not the textbook's is said however many have it
    return [key for key, it in settings.items() if it.used and (key == LOOP or usual.get(key) != it.value)]


def special_text(settings: Settings, usual: Mapping[str, str], lr_changes: Sequence[tuple[int, float]] = ()) -> str:
    """Learning rate and optimizer, then every setting that is not the usual one: `lr 0.1 · Adam · batch 32`."""
    return _joined(settings, [LR, OPTIMIZER, *_special(settings, usual)], lr_changes)


def summary_text(settings: Settings, usual: Mapping[str, str], lr_changes: Sequence[tuple[int, float]] = ()) -> str:
    """The same, and then what a run was trained by and on otherwise."""
    return _joined(settings, [LR, OPTIMIZER, *_special(settings, usual), *SUMMARY], lr_changes)


def _joined(settings: Settings, keys: Iterable[str], lr_changes: Sequence[tuple[int, float]]) -> str:
    phrases = [rate_phrase(settings, lr_changes) if key == LR else settings[key].phrase for key in keys]
    return " · ".join(dict.fromkeys(phrases))


def changes(before: WorkflowSpec, after: WorkflowSpec) -> list[str]:
    """What becomes of each setting that is another one afterwards and does something in either: `epochs 100 → 200`."""
    old, new = settings_of(before), settings_of(after)
    return [
        f"{was.label} {was.value} → {new[key].value}"
        for key, was in old.items()
        if was.value != new[key].value and (was.used or new[key].used)
    ]
