"""A save is whole or has not happened, and plain PyTorch reads what it wrote."""

from __future__ import annotations

import errno
import fcntl
import io
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from workflow_core import archive, atomic
from workflow_core.errors import Problem, WorkflowError
from workflow_core.specs import OPTIMIZERS, DataSpec, InitSpec, ModelSpec, TrainSpec, WorkflowSpec
from workflow_core.steps import build, data
from workflow_core.steps.load import load
from workflow_core.steps.save import save
from workflow_core.steps.tracked import Tracked
from workflow_core.steps.train import Trainer


def write(path: Path | str, kind: Any = "state_dict", overwrite: bool = False, **others: Any) -> Path:
    model = others.pop("model", None) or build.build(ModelSpec())
    arguments: dict[str, Any] = {
        "workflow": WorkflowSpec(),
        "epoch": 3,
        "train_loss": 0.5,
        "val_loss": None,
        "optimizer_state": None,
        "dataset": data.make(DataSpec()),
    }
    return save(path, kind, model, overwrite=overwrite, **{**arguments, **others})


def refused(path: Path | str, overwrite: bool = False) -> Problem:
    with pytest.raises(WorkflowError) as caught:
        write(path, overwrite=overwrite)
    problem = caught.value.problem
    assert "\n" not in problem.line()
    assert problem.advice
    return problem


def test_plain_torch_loads_a_state_dict(tmp_path: Path) -> None:
    model = build.build(ModelSpec())
    path = write(tmp_path / "model.pt", model=model)
    for source in (path, io.BytesIO(path.read_bytes())):
        weights = torch.load(source, weights_only=True)
        assert list(weights) == ["weight", "bias"]
        fresh = build.LinearRegressionModel()
        fresh.load_state_dict(weights)
        assert Tracked(fresh).read() == Tracked(model).read()


@pytest.mark.parametrize(
    "settings",
    [{"optimizer": name} for name in OPTIMIZERS]
    + [{"momentum": 0.9, "nesterov": True}, {"optimizer": "rmsprop", "momentum": 0.5}, {"weight_decay": 0.1}],
    ids=str,
)
def test_plain_torch_loads_a_checkpoint_and_can_go_on(tmp_path: Path, settings: dict[str, Any]) -> None:
    spec = TrainSpec(device="cpu", **settings)
    model_spec = ModelSpec(kind="mlp", hidden=(3,))
    trainer = Trainer(build.build(model_spec), data.make(DataSpec()), spec)
    for _ in range(5):
        trainer.epoch()
    path = write(
        tmp_path / "run.pt",
        "checkpoint",
        model=trainer.model,
        optimizer_state=trainer.optimizer.state_dict(),
        workflow=WorkflowSpec(model=model_spec, train=spec),
    )
    assert load(path).after == trainer.tracked.read()
    contents = torch.load(path, weights_only=True)
    assert (contents["epoch"], contents["train_loss"], contents["val_loss"]) == (3, 0.5, None)
    assert type(contents["torch_version"]) is str
    assert WorkflowSpec.from_builtins(contents["workflow"]).train == spec
    again = Trainer(build.build(model_spec), data.make(DataSpec()), spec)
    again.model.load_state_dict(contents["model_state_dict"])
    again.optimizer.load_state_dict(contents["optimizer_state_dict"])
    trainer.fetch()
    trainer.epoch()
    again.epoch()
    assert trainer.fetch() == again.fetch()


def test_a_checkpoint_tells_what_it_predicts_from_and_plain_torch_can_use_it(tmp_path: Path) -> None:
    dataset = data.make(DataSpec(kind="plane", weights=(3.0, -2.0), bias=40.0, standardize=True))
    workflow = WorkflowSpec(data=dataset.spec, model=ModelSpec(kind="linear"))
    model = build.build(workflow.model, 2)
    path = write(tmp_path / "run.pt", "checkpoint", model=model, workflow=workflow, dataset=dataset)
    contents = torch.load(path, weights_only=True)
    assert (contents["features"], contents["target"], contents["class_text"]) == (["x1", "x2"], "y", "")
    scaling = contents["scaling"]
    X = (torch.tensor([[0.25, 0.5]], dtype=torch.float64) - torch.tensor(scaling["X_mean"])) / torch.tensor(
        scaling["X_std"]
    )
    with torch.no_grad():
        y_pred = model(X.float()) * scaling["y_std"] + scaling["y_mean"]
    assert build.predict(model, [[0.25, 0.5]], dataset.scaling) == pytest.approx([y_pred.item()], rel=1e-6)


def test_a_saved_view_does_not_drag_its_whole_storage_along(tmp_path: Path) -> None:
    model = build.LinearRegressionModel()
    model.weight = torch.nn.Parameter(torch.zeros(100_000)[5:6])
    assert write(tmp_path / "small.pt", model=model).stat().st_size < 4000


def test_an_existing_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_text("mine")
    assert "exists already" in refused(path).message
    assert path.read_text() == "mine"
    path.chmod(0o640)
    write(path, overwrite=True)
    assert load(path).file.verified
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["model.pt"]


def test_a_symbolic_link_is_followed_to_the_real_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "model.pt"
    link = tmp_path / "link.pt"
    link.symlink_to(target)
    assert write(link) == target.resolve()
    assert link.is_symlink()
    assert write(link, overwrite=True).samefile(target)
    assert os.listdir(tmp_path / "real") == ["model.pt"]
    assert "exists already" in refused(link).message


def test_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert write("~/model.pt") == (tmp_path / "model.pt").resolve()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "No file name"),
        ("   ", "No file name"),
        ("nul\0here.pt", "NUL"),
        ("lone\ud800.pt", "no file can have"),
        (".", "is a folder"),
        ("folder", "is a folder"),
        ("folder/", "is a folder"),
        ("missing/", "is a folder"),
        ("missing/model.pt", "does not exist"),
        ("file/model.pt", "not a folder"),
        ("n" * 300, "too long"),
        ("pipe", "a pipe"),
        ("circle", "in a circle"),
    ],
)
def test_names_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").touch()
    os.mkfifo("pipe")
    os.symlink("circle", "circle")
    before = sorted(os.listdir())
    for overwrite in (False, True):
        assert message in refused(name, overwrite).message
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(("read_only", "message"), [(False, "permission is denied"), (True, "read-only")])
def test_a_folder_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_only: bool, message: str
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    flags = SimpleNamespace(f_flag=os.ST_RDONLY if read_only else 0)
    monkeypatch.setattr(os, "statvfs", lambda _: flags)
    assert message in refused(tmp_path / "model.pt").message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_or_file_without_permission(tmp_path: Path) -> None:
    path = write(tmp_path / "model.pt")
    path.chmod(0o444)
    assert "write-protected" in refused(path, overwrite=True).message
    tmp_path.chmod(0o555)
    try:
        assert "permission is denied" in refused(tmp_path / "other.pt").message
    finally:
        tmp_path.chmod(0o755)


def test_the_longest_name_that_a_folder_takes_can_be_saved(tmp_path: Path) -> None:
    assert write(tmp_path / ("n" * 252 + ".pt")).exists()


@pytest.mark.parametrize("call", ["fsync", "replace", "ftruncate", "fchmod", "write"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_whatever_fails_the_old_file_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    path = write(tmp_path / "model.pt")
    before = path.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    problem = refused(path, overwrite=True)
    monkeypatch.undo()
    assert ("disk is full" in problem.message) == (code == errno.ENOSPC)
    assert path.read_bytes() == before
    left = set(os.listdir(tmp_path)) - {"model.pt"}
    assert not left
    write(path, "checkpoint", overwrite=True)
    assert os.listdir(tmp_path) == ["model.pt"]


def test_a_failing_first_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(os, "fsync", fail)
    refused(tmp_path / "model.pt")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_synchronised_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync
    calls: list[int] = []

    def second_fails(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.EIO, "")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", second_fails)
    assert refused(tmp_path / "model.pt").title == "Saved, but not for certain"
    monkeypatch.undo()
    assert load(tmp_path / "model.pt").file.verified


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO])
def test_a_folder_that_cannot_be_opened_does_not_undo_the_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real = os.open

    def refuse(path: Any, flags: int, *others: Any, **named: Any) -> int:
        if flags & os.O_DIRECTORY:
            raise OSError(code, "")
        return real(path, flags, *others, **named)

    path = tmp_path / "model.pt"
    monkeypatch.setattr(os, "open", refuse)
    if code == errno.EACCES:
        write(path)
    else:
        assert "the file is in place" in refused(path).message
    monkeypatch.undo()
    assert load(path).file.verified


def test_a_temporary_name_that_stays_does_not_undo_the_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "")

    path = tmp_path / "model.pt"
    monkeypatch.setattr(os, "unlink", fail)
    write(path)
    monkeypatch.undo()
    before = path.read_bytes()
    assert len(os.listdir(tmp_path)) == 2
    write(path, "checkpoint", overwrite=True)
    assert os.listdir(tmp_path) == ["model.pt"]
    assert path.read_bytes() != before


def temporary(folder: Path, name: str) -> Path:
    """The temporary file that a save to `name` uses, found by looking while it is there."""
    seen: list[str] = []
    real = os.fsync

    def look(descriptor: int) -> None:
        seen.extend(entry for entry in os.listdir(folder) if entry != name)
        real(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", look)
        atomic.write(folder / name, b"x", overwrite=True)
    assert len(seen) == 1
    return folder / seen[0]


def test_what_a_killed_save_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    leftover = temporary(tmp_path, path.name)
    leftover.write_bytes(b"half" * 10_000)
    write(path, overwrite=True)
    assert load(path).file.verified
    assert os.listdir(tmp_path) == ["model.pt"]


def test_a_kill_between_link_and_unlink_harms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "model.pt")
    os.link(path, temporary(tmp_path, path.name))
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "")))
    refused(path, overwrite=True)
    assert path.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's file")
def test_a_file_that_another_user_planted_does_not_become_the_saved_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pt"
    planted = temporary(tmp_path, path.name)
    path.unlink()
    planted.touch()
    os.chown(planted, 12345, 12345)
    write(path)
    assert path.stat().st_uid == os.geteuid()
    assert os.listdir(tmp_path) == ["model.pt"]
    planted.touch()
    os.chown(planted, 12345, 12345)
    before = path.read_bytes()

    def sticky(*_: Any) -> None:
        raise OSError(errno.EPERM, "")

    monkeypatch.setattr(os, "unlink", sticky)
    assert "cannot be removed" in refused(path, overwrite=True).message
    assert path.read_bytes() == before


def test_a_file_that_others_could_write_to_does_not_become_the_saved_one(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    leftover = temporary(tmp_path, path.name)
    leftover.touch()
    leftover.chmod(0o666)
    with open(leftover, "r+b") as kept_open:
        write(path, overwrite=True)
        kept_open.write(b"changed afterwards")
    assert load(path).file.verified


@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: os.symlink("elsewhere", path)])
def test_what_is_no_file_is_neither_waited_for_nor_followed(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    path = tmp_path / "model.pt"
    plant(temporary(tmp_path, path.name))
    write(path, overwrite=True)
    assert os.listdir(tmp_path) == ["model.pt"]


def test_a_folder_in_the_way_is_told(tmp_path: Path) -> None:
    temporary(tmp_path, "model.pt").mkdir()
    assert "this name is needed" in refused(tmp_path / "model.pt", overwrite=True).message


def test_two_saves_to_one_name_do_not_mix(tmp_path: Path) -> None:
    path = write(tmp_path / "model.pt")
    other = os.open(temporary(tmp_path, path.name), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "right now" in refused(path, overwrite=True).message
    finally:
        os.close(other)


def test_a_file_that_appears_during_the_save_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt"
    real: Callable[[int], None] = os.fsync

    def appear(descriptor: int) -> None:
        path.write_text("another's")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", appear)
    assert "exists already" in refused(path).message
    assert path.read_text() == "another's"
    assert os.listdir(tmp_path) == ["model.pt"]


def test_file_systems_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EPERM, "")

    monkeypatch.setattr(os, "link", fail)
    write(tmp_path / "model.pt")
    assert os.listdir(tmp_path) == ["model.pt"]
    assert "exists already" in refused(tmp_path / "model.pt").message


def test_every_flipped_bit_is_refused(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "model.pt").read_bytes())
    assert archive.open_archive(bytes(data)).verified
    for bit in range(len(data) * 8):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(archive.Refused):
            archive.open_archive(bytes(data))
        data[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize("size", [1e20, 1e35, 1e300])
def test_the_record_of_float64_data_is_not_computed_in_float32(tmp_path: Path, size: float) -> None:
    spec = DataSpec(kind="table", file="any.csv", dtype="float64")
    X = torch.linspace(0, 1, 30, dtype=torch.float64).unsqueeze(1) * size
    model = build.build(ModelSpec(init=InitSpec(values={"weight": 1.0, "bias": 0.0})), 1, "float64")
    path = save(
        tmp_path / "m.pt",
        "checkpoint",
        model,
        workflow=WorkflowSpec(data=spec),
        epoch=0,
        train_loss=None,
        val_loss=None,
        optimizer_state=None,
        dataset=data.from_columns(spec, X, X, ("x",), "y"),
        overwrite=False,
    )
    proof = torch.load(path)["proof"]
    assert (proof["x"][0], proof["x"][-1]) == (0.0, size)
    assert proof["x"] == proof["y_pred"]
    assert len(set(proof["x"])) == len(proof["x"])
