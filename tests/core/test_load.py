"""A good file loads and proves itself; every bad one gives one clear sentence and changes nothing."""

from __future__ import annotations

import contextlib
import io
import math
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_core.archive import open_archive
from workflow_core.errors import Problem, WorkflowError
from workflow_core.specs import DataSpec, InitSpec, ModelSpec, WorkflowSpec
from workflow_core.steps import build, data
from workflow_core.steps.load import inspect, load, prove
from workflow_core.steps.save import save
from workflow_core.steps.tracked import Tracked

SCALING = {"features": ["x"], "target": "y", "X_mean": [0.0], "X_std": [1.0], "y_mean": 0.0, "y_std": 1.0}
GOOD = {"weight": torch.tensor([0.5]), "bias": torch.tensor([0.25])}


def saved(item: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(item, buffer, **options)
    return buffer.getvalue()


def checkpoint(path: Path, model: torch.nn.Module | None = None, workflow: WorkflowSpec | None = None) -> Path:
    return save(
        path,
        "checkpoint",
        model or build.build(ModelSpec()),
        workflow=workflow or WorkflowSpec(),
        epoch=12,
        train_loss=0.25,
        val_loss=math.nan,
        optimizer_state=None,
        dataset=data.make(DataSpec()),
        overwrite=False,
    )


def refused(path: Path | str) -> Problem:
    with pytest.raises(WorkflowError) as caught:
        load(path)
    problem = caught.value.problem
    assert problem.title
    assert problem.message
    assert problem.line().isprintable()
    assert len(problem.line()) < 700
    return problem


# --- good files ------------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_and_proves_itself(tmp_path: Path) -> None:
    init = InitSpec(seed=7, values={"weight": 3.25})
    workflow = WorkflowSpec(model=ModelSpec(init=init))
    model = build.build(workflow.model)
    path = checkpoint(tmp_path / "run.pt", model, workflow)
    with torch.no_grad():
        model.get_parameter("bias").fill_(9)
    loaded = load(path)
    assert loaded.workflow == workflow
    assert loaded.epoch == 12
    assert loaded.file.kind == "checkpoint"
    assert loaded.file.verified
    assert loaded.file.size == path.stat().st_size
    assert loaded.file.values["train_loss"] == "0.25"
    assert loaded.file.values["workflow.model.init.values.weight"] == "3.25"
    assert [tensor.name for tensor in loaded.file.tensors] == ["model_state_dict.weight", "model_state_dict.bias"]
    record = prove(loaded, None, None)
    assert record is not None
    assert (record.against, record.equal, record.max_difference) == ("the saved record", True, 0)
    other = prove(loaded, model, data.make(DataSpec()))
    assert other is not None
    assert (other.against, other.rows, other.equal) == ("this model", 50, False)
    assert other.max_difference == pytest.approx(9 - Tracked(loaded.model).read()["bias"], rel=1e-5)
    assert len(other.samples) == 8


def test_a_foreign_state_dict_loads_into_a_fresh_model(tmp_path: Path) -> None:
    path = tmp_path / "foreign.pt"
    path.write_bytes(saved(OrderedDict(GOOD)))
    loaded = load(path)
    assert not loaded.file.verified
    assert loaded.before == Tracked(build.build(ModelSpec())).read()
    assert loaded.after == Tracked(loaded.model).read() == {"weight": 0.5, "bias": 0.25}
    assert loaded.workflow is None
    assert loaded.epoch is None
    assert prove(loaded, None, None) is None


def test_a_state_dict_of_a_module_with_its_metadata_loads(tmp_path: Path) -> None:
    path = tmp_path / "foreign.pt"
    model = build.build(ModelSpec())
    torch.save(model.state_dict(), path)
    assert load(path).after == Tracked(model).read()
    torch.save({"model_state_dict": model.state_dict(), "epoch": 3, "loss": 0.5, "torch_version": "2.13"}, path)
    loaded = load(path)
    assert loaded.file.kind == "checkpoint"
    assert loaded.epoch == 3


def test_differences_are_those_of_every_row_whatever_the_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = data.make(DataSpec())
    reference, loaded = build.build(ModelSpec()), load(checkpoint(tmp_path / "run.pt"))
    with torch.no_grad():
        loaded.model.get_parameter("weight").add_(0.5)
    x = dataset.X.flatten().tolist()
    pairs = list(zip(build.predict(reference, x), build.predict(loaded.model, x), strict=True))
    whole = prove(loaded, reference, dataset)
    assert whole is not None
    assert whole.max_difference == max(abs(a - b) for a, b in pairs)
    assert not whole.equal
    assert whole.samples[0] == ((x[0],), *pairs[0])
    assert whole.samples[-1] == ((x[-1],), *pairs[-1])
    for size in (1, 7, 50):
        monkeypatch.setattr("workflow_core.steps.load.SLICE", size)
        assert prove(loaded, reference, dataset) == whole
    # one number against none is no match, wherever it is
    dataset.X[20] = math.inf
    for model in (reference, loaded.model):
        with torch.no_grad():
            model.get_parameter("weight").fill_(0.5)
            model.get_parameter("bias").fill_(0.25)
    infinite = prove(loaded, reference, dataset)
    assert infinite is not None
    assert infinite.equal
    with torch.no_grad():
        loaded.model.get_parameter("weight").fill_(0.0)
    broken = prove(loaded, reference, dataset)
    assert broken is not None
    assert math.isnan(broken.max_difference)
    assert not broken.equal


def test_rows_are_compared_without_a_python_number_for_each(tmp_path: Path) -> None:
    dataset = data.make(DataSpec(stop=500_000.0, step=1.0))
    loaded = load(checkpoint(tmp_path / "run.pt"))
    tracemalloc.start()
    try:
        proof = prove(loaded, build.build(ModelSpec()), dataset)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert proof is not None
    assert (proof.rows, proof.equal) == (500_000, True)
    # lists of millions of rows take seconds, and a Pause would wait for them
    assert peak < 500_000


def test_the_proof_is_made_where_the_reference_is_and_leaves_the_loaded_model_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, loaded = build.build(ModelSpec()), load(checkpoint(tmp_path / "run.pt"))
    moved: list[tuple[torch.nn.Module, torch.device]] = []

    def note(model: torch.nn.Module, device: torch.device) -> torch.nn.Module:
        moved.append((model, device))
        return model

    monkeypatch.setattr(torch.nn.Module, "to", note)
    proof = prove(loaded, reference, data.make(DataSpec()))
    assert proof is not None
    assert proof.equal
    ((model, device),) = moved
    assert device == torch.device("cpu")
    assert model not in (loaded.model, reference)


def test_nan_weights_load_and_are_named(tmp_path: Path) -> None:
    path = tmp_path / "nan.pt"
    path.write_bytes(saved({"weight": torch.tensor([math.nan]), "bias": torch.tensor([1.0])}))
    loaded = load(path)
    assert math.isnan(loaded.after["weight"])
    assert loaded.file.values == {"not finite": "NaN or infinity in weight"}
    proof = prove(loaded, loaded.model, data.make(DataSpec()))
    assert proof is not None
    assert proof.equal


def test_inspect_shows_files_of_any_model(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    state = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).state_dict()
    torch.save(state, path)
    view = inspect(path)
    assert [tensor.name for tensor in view.tensors] == list(state)
    assert view.tensors[0].shape == (3, 2)
    assert view.tensors[-1].dtype == "int64"


def test_a_file_whose_name_is_no_unicode_can_be_told_of(tmp_path: Path) -> None:
    # a link may lead to such a file, though its name cannot be sent to the engine
    path = tmp_path / "caf\udce9.pt"
    path.write_bytes(saved(GOOD))
    assert inspect(path).path == str(tmp_path / "caf\N{REPLACEMENT CHARACTER}.pt")


def test_names_in_a_file_are_shown_harmless(tmp_path: Path) -> None:
    path = tmp_path / "names\x1b[31m.pt"
    path.write_bytes(saved({"\x1b]52;c;QQ==\x07": torch.ones(1), "x\nbias": torch.ones(1)}))
    assert [tensor.name for tensor in inspect(path).tensors] == ["�]52;c;QQ==�", "x bias"]
    refused(path)


# --- models, scalings and settings of every kind ----------------------------------------------------


def store(path: Path, workflow: WorkflowSpec) -> tuple[torch.nn.Module, data.Dataset]:
    """Save a checkpoint of a fresh model for these data."""
    dataset = data.make(workflow.data)
    model = build.build(workflow.model, len(dataset.features), workflow.data.dtype)
    save(
        path,
        "checkpoint",
        model,
        workflow=workflow,
        epoch=3,
        train_loss=0.5,
        val_loss=None,
        optimizer_state=None,
        dataset=dataset,
        overwrite=True,
    )
    return model, dataset


@pytest.mark.parametrize("kind", ["parameter", "linear", "polynomial", "mlp"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("source", ["line", "plane", "sample"])
def test_everything_that_is_saved_comes_back_and_proves_itself(
    tmp_path: Path, kind: Any, dtype: Any, standardize: bool, source: Any
) -> None:
    if (kind, source) == ("parameter", "plane"):
        return
    workflow = WorkflowSpec(
        data=DataSpec(kind=source, dtype=dtype, standardize=standardize, noise=0.1),
        model=ModelSpec(kind=kind, hidden=(5, 3), dropout=0.25, degree=3, init=InitSpec(seed=9)),
    )
    model, dataset = store(tmp_path / "run.pt", workflow)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.125)
    save_again = dict(epoch=4, train_loss=None, val_loss=None, optimizer_state=None, dataset=dataset, overwrite=True)
    save(tmp_path / "run.pt", "checkpoint", model, workflow=workflow, **save_again)  # type: ignore[arg-type]
    loaded = load(tmp_path / "run.pt")
    assert (loaded.features, loaded.target) == (dataset.features, dataset.target)
    assert (loaded.scaling is None) == (not standardize)
    assert loaded.before != loaded.after == Tracked(model).read()
    for proof in (prove(loaded, model, dataset), prove(loaded, None, None)):
        assert proof is not None
        assert proof.equal
        assert len(proof.samples[0][0]) == len(dataset.features)
    rows = dataset.X[:5].tolist()
    assert build.predict(loaded.model, rows, loaded.scaling) == build.predict(model, rows, dataset.scaling)


def test_a_state_dict_goes_into_the_model_and_data_at_hand(tmp_path: Path) -> None:
    dataset = data.make(DataSpec(kind="plane", standardize=True, dtype="float64"))
    spec = ModelSpec(kind="mlp", hidden=(3,))
    model = build.build(ModelSpec(kind="mlp", hidden=(3,), init=InitSpec(seed=1)), 2, "float64")
    path = tmp_path / "weights.pt"
    torch.save(model.state_dict(), path)
    loaded = load(path, spec, dataset)
    assert loaded.scaling is dataset.scaling
    assert (loaded.features, loaded.target) == (("x1", "x2"), "y")
    proof = prove(loaded, model, dataset)
    assert proof is not None
    assert proof.equal
    with pytest.raises(WorkflowError, match="this model wants weight"):
        load(path)
    with pytest.raises(WorkflowError, match="over one feature"):
        load(path, ModelSpec(), dataset)


def test_other_features_are_compared_with_the_record_alone(tmp_path: Path) -> None:
    model, _ = store(tmp_path / "run.pt", WorkflowSpec(data=DataSpec(kind="plane"), model=ModelSpec(kind="linear")))
    loaded = load(tmp_path / "run.pt")
    for other in (DataSpec(), DataSpec(kind="plane", weights=(1.0, 2.0, 3.0)), DataSpec(kind="sample")):
        proof = prove(loaded, model, data.make(other))
        assert proof is not None
        assert (proof.against, proof.equal) == ("the saved record", True)


def test_a_checkpoint_of_format_1_still_loads(tmp_path: Path) -> None:
    """As the first version wrote it: no features, no scaling, settings of a line and an nn.Parameter model."""
    contents = {
        "format_version": 1,
        "torch_version": "2.13.0",
        "epoch": 100,
        "train_loss": 0.25,
        "val_loss": None,
        "model_state_dict": GOOD,
        "optimizer_state_dict": None,
        "workflow": {
            "data": {
                **{"weight": 0.7, "bias": 0.3, "start": 0.0, "stop": 1.0, "step": 0.02, "noise": 0.0, "seed": 42},
                "split": {"train": 0.7, "validation": 0.15, "test": 0.15, "order": "sequential", "seed": 42},
            },
            "model": {"kind": "parameter", "init": {"seed": 42, "values": {"weight": 1.5}}},
            "train": {"loss": "mse", "optimizer": "sgd", "learning_rate": 0.01, "epochs": 100, "device": "auto"},
        },
        "proof": {"x": [0.0, 1.0], "y_pred": [0.25, 0.75]},
    }
    path = tmp_path / "old.pt"
    path.write_bytes(saved(contents))
    loaded = load(path)
    assert loaded.after == {"weight": 0.5, "bias": 0.25}
    assert loaded.before["weight"] == 1.5
    assert (loaded.features, loaded.target, loaded.scaling, loaded.epoch) == (("x",), "y", None, 100)
    proof = prove(loaded, None, None)
    assert proof is not None
    assert (proof.rows, proof.equal) == (2, True)
    assert loaded.workflow is not None
    assert not loaded.workflow.data.standardize


OWN = """\
import pathlib
import torch
from torch import nn

pathlib.Path(__file__).with_suffix(".ran").touch()


class Net(nn.Module):
    def __init__(self, hidden=2):
        super().__init__()
        self.first = nn.Linear(1, hidden)
        self.last = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))
"""


def test_a_class_of_somebodys_own_is_run_only_from_the_file_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    there, here, ran = tmp_path / "there" / "net.py", tmp_path / "here" / "net.py", tmp_path / "there" / "net.ran"
    there.write_text(OWN)
    here.write_text(OWN)
    spec = ModelSpec(kind="custom", file=str(there), class_name="Net", arguments={"hidden": 5})
    model, dataset = store(tmp_path / "own.pt", WorkflowSpec(model=spec))
    ran.unlink()
    other = (ModelSpec(kind="custom", file=str(here), class_name="Other"), ModelSpec(kind="mlp"), None)
    elsewhere = ModelSpec(kind="custom", file=str(tmp_path / "other.py"), class_name="Net")
    for named in (*other, elsewhere):
        with pytest.raises(WorkflowError) as caught:
            load(tmp_path / "own.pt", named, dataset)
        assert "net.py:Net" in caught.value.problem.message
        assert "trust" in caught.value.problem.advice
    view = inspect(tmp_path / "own.pt")
    assert view.values["class_text"].startswith("class Net(nn.Module):")
    loaded = load(tmp_path / "own.pt", ModelSpec(kind="custom", file=str(here), class_name="Net"))
    assert not ran.exists()
    proof = prove(loaded, model, dataset)
    assert proof is not None
    assert proof.equal
    assert loaded.model.get_parameter("first.weight").shape == (5, 1)
    here.write_text(OWN.replace("self.last = nn", "self.final = nn").replace("self.last(", "self.final("))
    with pytest.raises(WorkflowError, match="does not fit"):
        load(tmp_path / "own.pt", ModelSpec(kind="custom", file=str(here), class_name="Net"))


def test_arguments_out_of_a_file_take_no_memory(tmp_path: Path) -> None:
    own, taken = tmp_path / "net.py", tmp_path / "taken"
    text = OWN.replace("        super().__init__()", "        super().__init__()\n        KEEP", 1)
    probe = f"pathlib.Path({str(taken)!r}).write_text(str(torch.zeros(()).is_meta))"
    own.write_text(text.replace("KEEP", probe))
    spec = ModelSpec(kind="custom", file=str(own), class_name="Net", arguments={"hidden": 5})
    path = tmp_path / "own.pt"
    store(path, WorkflowSpec(model=spec))
    contents = torch.load(path)
    contents["workflow"]["model"]["arguments"] = {"hidden": 50_000_000}
    torch.save(contents, path)
    taken.unlink()
    named = msgspec.structs.replace(spec, arguments={})
    with pytest.raises(WorkflowError, match=r"it has first.weight \[5, 1\].*wants first.weight \[50000000, 1\]"):
        load(path, named)
    assert taken.read_text() == "True"
    # the caller's own arguments are used where there are some
    assert load(path, spec).model.get_parameter("first.weight").shape == (5, 1)
    own.write_text(text.replace("KEEP", "torch.zeros(3).sum().item()"))
    with pytest.raises(WorkflowError, match="hidden=50000000, which cannot be tried out safely"):
        load(path, named)
    assert load(path, spec).model.get_parameter("first.weight").shape == (5, 1)


# --- bad files -------------------------------------------------------------------------------------


class Bomb:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def repacked(pickled: bytes, packing: int = zipfile.ZIP_STORED, **entries: bytes) -> bytes:
    """An archive as torch.save makes it, with one storage of four bytes and this pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", b"\0\0\0\0")
        archive.writestr("archive/version", b"3\n")
        for name, content in entries.items():
            archive.writestr(f"archive/{name.replace('_', '.')}", content)
    return buffer.getvalue()


def tensor_pickle(count: bytes = b"K\x01", shape: bytes = b"K\x01\x85", stride: bytes = b"K\x01\x85") -> bytes:
    """A pickle of {"weight": tensor} whose storage count, shape and stride are given as opcodes."""
    storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu" + count + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0" + shape + stride
    return b"\x80\x02}X\x06\0\0\0weight" + tensor + b"\x89ccollections\nOrderedDict\n)RtRs."


BIG = b"\x8a\x08" + struct.pack("<q", 10**15)


def flipped(data: bytes, needle: bytes) -> bytes:
    at = data.index(needle)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def nested(depth: int) -> Any:
    item: Any = []
    for _ in range(depth):
        item = [item]
    return item


def laughs() -> Any:
    item: Any = [GOOD["weight"]]
    for _ in range(7):
        item = [item] * 20
    return item


FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "text": (b"just some text\n", "not a file that PyTorch saved"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a file that PyTorch saved"),
    "bare pickle": (pickle.dumps({"weight": 1}), "bare Python pickle"),
    "old format": (saved(GOOD, _use_new_zipfile_serialization=False), "bare Python pickle"),
    "cut short": (saved(GOOD)[:-30], "end is missing"),
    "only a start": (saved(GOOD)[:4], "end is missing"),
    "more at the end": (saved(GOOD) + b"!", "end is missing"),
    "more at the start": (b"PK" + saved(GOOD), "not one that torch.save wrote"),
    "flipped in a number": (flipped(saved(GOOD), struct.pack("<f", 0.5)), "checksum"),
    "flipped in a name": (flipped(saved(GOOD), b"_rebuild_tensor"), "checksum"),
    "another zip": (repacked(b"\x80\x02}.", readme_txt=b"hello"), "not one that torch.save wrote"),
    "zip bomb": (repacked(bytes(10**6), zipfile.ZIP_DEFLATED), "packed"),
    "TorchScript": (repacked(b"\x80\x02}.", constants_pkl=b""), "TorchScript"),
    "not a mapping": (saved([1, 2, 3]), "neither a state_dict nor a checkpoint"),
    "a bare tensor": (saved(torch.ones(3)), "neither a state_dict nor a checkpoint"),
    "no tensors": (saved({"weight": 0.5}), "neither a state_dict nor a checkpoint"),
    "nothing in it": (saved({}), "neither a state_dict nor a checkpoint"),
    "another model": (saved(torch.nn.Linear(3, 2).state_dict()), "weight [2, 3] float32"),
    "one more key": (saved({**GOOD, "scale": torch.ones(1)}), "scale [1] float32"),
    "one key less": (saved({"weight": torch.ones(1)}), "this model wants weight [1] float32, bias [1] float32"),
    "another shape": (saved({**GOOD, "bias": torch.ones(1, 1)}), "bias [1, 1] float32"),
    "another dtype": (saved({**GOOD, "bias": torch.ones(1, dtype=torch.int64)}), "bias [1] int64"),
    "complex": (saved({**GOOD, "bias": torch.ones(1, dtype=torch.complex64)}), "could run code"),
    "a view of one number": (saved({**GOOD, "bias": torch.ones(1).expand(10**6, 10**6)}), "more numbers than"),
    "sparse": (saved({**GOOD, "bias": torch.ones(1).to_sparse()}), "could run code"),
    "whole model": (saved(torch.nn.Linear(1, 1)), "torch.nn.modules.linear.Linear"),
    "TorchVersion": (saved({"model_state_dict": GOOD, "torch_version": torch.__version__}), "torch.__version__"),
    "huge storage": (repacked(tensor_pickle(count=BIG)), "than it does"),
    "huge shape": (repacked(tensor_pickle(shape=BIG + b"\x85")), "more numbers than"),
    "negative stride": (repacked(tensor_pickle(stride=b"J\xff\xff\xff\xff\x85")), "makes no sense"),
    "a step beyond the end": (repacked(tensor_pickle(shape=b"K\x02\x85", stride=b"K\x09\x85")), "more numbers than"),
    "huge memo index": (repacked(b"\x80\x02}r\xff\xff\xff\x7f."), "makes no sense"),
    "BUILD on a tensor": (repacked(tensor_pickle()[:-2] + b"}bs."), "changes its tensors"),
    "cut pickle": (repacked(tensor_pickle()[:-3]), "makes no sense"),
    "too deep": (saved({**GOOD, "more": nested(50)}), "deeper nested"),
    "a billion laughs": (saved({**GOOD, "more": laughs()}), "more, or deeper"),
    "odd keys": (saved({**GOOD, "more": {(1, 2): [1]}}), "keys"),
    "an infinite list": (repacked(b"\x80\x02}q\x01X\x01\0\0\0ah\x01s."), "deeper nested"),
    "settings from elsewhere": (
        saved({"model_state_dict": GOOD, "workflow": {"data": {"rows": "\x1b[2J"}}}),
        "settings that this version cannot use",
    ),
    "a model larger than the file": (
        saved({"model_state_dict": GOOD, "workflow": {"model": {"kind": "mlp", "hidden": [3_000] * 3}}}),
        "this model wants layers.0.weight [3000, 1] float32",
    ),
    "a model beyond all memory": (
        saved({"model_state_dict": GOOD, "workflow": {"model": {"kind": "mlp", "hidden": [65_536] * 32}}}),
        "parameters; to train them takes",
    ),
    "features without names": (saved({"model_state_dict": GOOD, "features": [1, 2]}), "have no names"),
    "no features": (saved({"model_state_dict": GOOD, "features": []}), "have no names"),
    "a target without a name": (saved({"model_state_dict": GOOD, "features": ["x"], "target": 3}), "has no name"),
    "a scaling of nothing": (saved({"model_state_dict": GOOD, "features": ["x"], "scaling": [1.0]}), "the scaling"),
    "a scaling of others": (
        saved({"model_state_dict": GOOD, "features": ["x"], "scaling": {**SCALING, "features": ["z"]}}),
        "that of other features",
    ),
    "a scaling by zero": (
        saved({"model_state_dict": GOOD, "features": ["x"], "scaling": {**SCALING, "X_std": [0.0]}}),
        "not above 0",
    ),
    "more features than a line has": (
        saved({"model_state_dict": GOOD, "features": ["x", "z"], "workflow": {"model": {"kind": "parameter"}}}),
        "a line over one feature",
    ),
    "settings that are no settings": (saved({"model_state_dict": GOOD, "workflow": 3}), "cannot use"),
}


@pytest.mark.parametrize("name", FILES)
def test_bad_files(tmp_path: Path, name: str) -> None:
    content, message = FILES[name]
    path = tmp_path / "bad.pt"
    path.write_bytes(content)
    problem = refused(path)
    assert message in problem.message
    assert "weights_only" not in problem.line()


def test_the_handmade_archive_is_good_before_it_is_spoilt(tmp_path: Path) -> None:
    path = tmp_path / "good.pt"
    path.write_bytes(repacked(tensor_pickle()))
    assert inspect(path).tensors[0].values == (0.0,)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_a_file_is_executed(tmp_path: Path, zipped: bool) -> None:
    canary = tmp_path / "executed"
    path = tmp_path / "bomb.pt"
    path.write_bytes(saved({**GOOD, "bomb": Bomb(canary)}) if zipped else pickle.dumps(Bomb(canary)))
    assert "could run code" in refused(path).message
    assert not canary.exists()


def sockets(path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "a folder"),
        (lambda path: os.mkfifo(path), "a pipe"),
        (lambda path: sockets(path), "no regular file"),
        (lambda path: path.symlink_to(path), "in a circle"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
    ],
)
def test_what_is_no_file(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    make(tmp_path / "x")
    assert message in refused(tmp_path / "x").message


@pytest.mark.parametrize("name", ["", "nul\0", "lone\ud800", "n" * 5000])
def test_names_that_no_file_has(name: str) -> None:
    refused(name)


def test_a_file_of_more_than_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.pt"
    with path.open("wb") as file:
        file.truncate(10**12)
    assert "larger than 512 MiB" in refused(path).message


CLEAN = saved(GOOD)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(CLEAN) * 8 - 1), st.integers(0, len(CLEAN)))
def test_damaged_foreign_files_never_give_other_numbers(
    tmp_path_factory: pytest.TempPathFactory, bit: int, end: int
) -> None:
    spoilt = bytearray(CLEAN)
    spoilt[bit // 8] ^= 1 << bit % 8
    path = tmp_path_factory.getbasetemp() / "flip.pt"
    for content in (bytes(spoilt), CLEAN[:end]):
        path.write_bytes(content)
        with contextlib.suppress(WorkflowError):
            assert load(path).after == {"weight": 0.5, "bias": 0.25}


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_give_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, as_pickle: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.pt"
    path.write_bytes(repacked(content) if as_pickle else content)
    with pytest.raises(WorkflowError):
        load(path)


def test_a_broken_proof_is_no_proof(tmp_path: Path) -> None:
    for record in (
        {"x": [[1.0, 2.0]], "y_pred": [1.0]},
        {"x": [1.0]},
        {"x": [1.0], "y_pred": [1.0, 2.0]},
        {"x": ["a"], "y_pred": [1.0]},
        [1.0],
        None,
    ):
        path = tmp_path / "proof.pt"
        path.write_bytes(saved({"model_state_dict": GOOD, "proof": record}))
        assert prove(load(path), None, None) is None


def test_our_own_files_pass_the_gate_without_torch(tmp_path: Path) -> None:
    assert open_archive(checkpoint(tmp_path / "run.pt").read_bytes()).verified
