"""A class of the user's own is used as it is written, and what is wrong with it is told by the line in their file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from workflow_core.errors import Problem, WorkflowError
from workflow_core.specs import DataSpec, InitSpec, ModelSpec, TrainSpec
from workflow_core.steps import build, custom, data
from workflow_core.steps.tracked import Tracked

HEAD = "import torch\nfrom torch import nn\n\n\n"
NET = (
    HEAD
    + """\
class Net(nn.Module):
    def __init__(self, hidden=4, bias=True):
        super().__init__()
        self.first = nn.Linear(2, hidden, bias=bias)
        self.last = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))
"""
)


def net(init: str = "self.linear = nn.Linear(2, 1)", forward: str = "return self.linear(x)", before: str = "") -> str:
    """A file with a class Net; the body of its forward begins at line 11 where nothing stands before it."""
    body = "\n".join(f"        {line}" for line in init.split("\n"))
    rest = "\n".join(f"        {line}" for line in forward.split("\n"))
    return f"{HEAD}{before}class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n{body}\n\n" + (
        f"    def forward(self, x):\n{rest}\n"
    )


def spec(path: Path, name: str = "Net", **settings: Any) -> ModelSpec:
    return ModelSpec(kind="custom", file=str(path), class_name=name, **settings)


def write(folder: Path, text: str, name: str = "net.py") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def make(folder: Path, text: str, **settings: Any) -> nn.Module:
    return build.build(spec(write(folder, text), **settings), 2)


def refused(folder: Path, text: str, **settings: Any) -> Problem:
    before = sys.path[:], torch.get_default_dtype(), torch.is_grad_enabled(), sys.stdout
    with pytest.raises(WorkflowError) as caught:
        make(folder, text, **settings)
    assert before == (sys.path, torch.get_default_dtype(), torch.is_grad_enabled(), sys.stdout)
    problem = caught.value.problem
    assert problem.advice
    assert problem.line().isprintable()
    return problem


# --- models that are as they should be --------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_is_drawn_and_predicts_as_in_a_script(tmp_path: Path, dtype: Any) -> None:
    path = write(tmp_path, NET)
    model = build.build(spec(path, arguments={"hidden": 7, "bias": False}, init=InitSpec(seed=5)), 2, dtype)
    scope: dict[str, Any] = {}
    exec(NET, scope)
    torch.manual_seed(5)
    script = scope["Net"](hidden=7, bias=False).to(getattr(torch, dtype))
    assert list(model.state_dict()) == list(script.state_dict())
    assert all(map(torch.equal, model.state_dict().values(), script.state_dict().values()))
    # what training draws next is what a script would draw, too
    drawn = torch.rand(1)
    torch.manual_seed(5)
    scope["Net"](hidden=7, bias=False)
    assert torch.equal(drawn, torch.rand(1))
    X = torch.tensor([[1.0, 2.0]], dtype=script.last.weight.dtype)
    assert build.predict(model, X) == [script(X).item()]


def test_initial_values_and_zeros(tmp_path: Path) -> None:
    init = InitSpec(kind="zeros", values={"last.bias": 2.0, "first.bias": (1.0, 2.0, 3.0, 4.0)})
    model = make(tmp_path, NET, init=init)
    assert build.predict(model, [[0.3, 0.4]]) == [2.0]
    assert model.get_parameter("first.bias").tolist() == [1, 2, 3, 4]
    assert (
        "no parameter w; it has first.weight [4, 2]" in refused(tmp_path, NET, init=InitSpec(values={"w": 1})).message
    )


def test_the_view_shows_its_code_and_what_of_it_is_trained(tmp_path: Path) -> None:
    text = net(init="self.linear = nn.Linear(2, 1)\nself.linear.bias.requires_grad_(False)")
    path = write(tmp_path, text)
    model = build.build(spec(path), 2)
    view = build.view(model, spec(path), data.make(DataSpec(kind="plane")), TrainSpec())
    assert view.source == text.removeprefix(HEAD)
    assert (view.class_name, view.count, view.size) == ("Net", 2, 12)
    assert [parameter.requires_grad for parameter in view.parameters] == [True, False]
    assert view.coefficients == view.reference.closed_form == {}
    assert len(view.pairs) > 0
    assert build.build(ModelSpec()) is not None
    assert custom.source(build.build(ModelSpec())) == ""


def test_an_edited_file_counts_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, NET)
    stamp = path.stat()
    assert len(Tracked(make(tmp_path, NET)).names) == 8
    # as many bytes, within the same tick of the clock
    path.write_text(NET.replace("hidden=4", "hidden=9"))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert build.build(spec(path), 2).get_parameter("last.weight").shape == (1, 9)


def test_modules_beside_it_are_found_and_read_anew(tmp_path: Path) -> None:
    write(tmp_path, "import torch\nfrom deeper.parts import activation\nHIDDEN = 3\n", "layers.py")
    write(tmp_path, "import torch\nactivation = torch.tanh\n", "deeper/parts.py")
    text = net(
        "import layers\nself.linear = nn.Linear(2, layers.HIDDEN)\nself.last = nn.Linear(layers.HIDDEN, 1)",
        "import deeper.parts\nreturn self.last(deeper.parts.activation(self.linear(x)))",
    )
    model = make(tmp_path, text)
    assert model.get_parameter("last.weight").shape == (1, 3)
    assert build.predict(model, [[1.0, 1.0]]) == build.predict(model, [[1.0, 1.0]])
    write(tmp_path, "HIDDEN = 5\n", "layers.py")
    assert make(tmp_path, text).get_parameter("last.weight").shape == (1, 5)
    assert not list(tmp_path.rglob("__pycache__"))


def test_two_folders_with_modules_of_one_name_do_not_mix(tmp_path: Path) -> None:
    text = net("from layers import HIDDEN\nself.linear = nn.Linear(2, HIDDEN)\nself.last = nn.Linear(HIDDEN, 1)")
    text = text.replace("return self.linear(x)", "return self.last(self.linear(x))")
    for folder, hidden in (("a", 2), ("b", 6)):
        write(tmp_path, f"HIDDEN = {hidden}\n", f"{folder}/layers.py")
        assert make(tmp_path / folder, text).get_parameter("last.weight").shape == (1, hidden)


def test_a_file_in_a_package_imports_as_its_project_does(tmp_path: Path) -> None:
    write(tmp_path, "", "project_of_mine/__init__.py")
    write(tmp_path, "HIDDEN = 3\n", "project_of_mine/sizes.py")
    write(tmp_path, "", "project_of_mine/models/__init__.py")
    write(tmp_path, "WIDTH = 1\n", "project_of_mine/models/width.py")
    text = net("self.linear = nn.Linear(2, WIDTH)\nassert HIDDEN == 3")
    imports = "from project_of_mine.sizes import HIDDEN\nfrom .width import WIDTH\n"
    make(tmp_path / "project_of_mine" / "models", imports + text)


@pytest.mark.parametrize("name", ["json.py", "workflow_core.py", "torch.py", "net.py"])
def test_it_takes_nobodys_place(tmp_path: Path, name: str) -> None:
    before = sys.modules.get("workflow_core"), sys.modules.get("json"), sys.modules.get("torch")
    for beside in ("json.py", "workflow_core.py", "torch.py", "random.py", "msgspec/__init__.py"):
        write(tmp_path, "raise RuntimeError('in the place of another')\n", beside)
    search = sys.path[:]
    path = write(tmp_path, "import json, random, msgspec\njson.dumps([])\n" + net(), name)
    build.build(spec(path), 2)
    assert before == (sys.modules.get("workflow_core"), sys.modules.get("json"), sys.modules.get("torch"))
    assert sys.path == search
    assert json.loads("[1]") == [1]
    fresh = __import__("wsgiref")
    assert isinstance(fresh, ModuleType)


def test_a_lazily_shaped_layer_gets_its_shape_and_its_seed(tmp_path: Path) -> None:
    text = net("self.linear = nn.LazyLinear(1)")
    model = make(tmp_path, text, init=InitSpec(seed=3, values={"linear.bias": 0.5}))
    torch.manual_seed(3)
    lazy = nn.LazyLinear(1)
    lazy(torch.zeros(3, 2))
    assert torch.equal(model.get_parameter("linear.weight"), lazy.weight)
    assert model.get_parameter("linear.bias").item() == 0.5


def test_shared_parameters_buffers_and_both_modes(tmp_path: Path) -> None:
    text = net(
        "self.linear = nn.Linear(2, 2)\nself.again = self.linear\nself.norm = nn.BatchNorm1d(2)\n"
        "self.dropout = nn.Dropout(0.5)\nself.last = nn.Linear(2, 1)\n"
        "self.register_buffer('scale', torch.tensor([2.0], dtype=torch.float64))\n"
        "self.register_buffer('seen', torch.tensor(3))",
        "return self.last(self.dropout(self.norm(self.again(self.linear(x))))) * self.scale",
    )
    model = make(tmp_path, text)
    assert sum(parameter.numel() for parameter in model.parameters()) == 6 + 4 + 3
    state = model.state_dict()
    assert (state["scale"].dtype, state["seen"].dtype) == (torch.float32, torch.int64)
    assert state["norm.num_batches_tracked"] == 0
    assert model.training
    assert build.predict(model, [[1.0, 2.0]]) == build.predict(model, [[1.0, 2.0]])
    assert build.build(spec(tmp_path / "net.py"), 2, "float64").state_dict()["scale"].dtype == torch.float64


def test_a_class_from_a_module_beside_it(tmp_path: Path) -> None:
    write(tmp_path, net(), "nets.py")
    path = write(tmp_path, "from nets import Net\n", "entry.py")
    assert custom.source(build.build(spec(path), 2)).startswith("class Net")
    ready = write(tmp_path, "from torch.nn import Linear as Net\n")
    assert type(build.build(spec(ready, arguments={"in_features": 2, "out_features": 1}), 2)) is nn.Linear
    assert custom.source(nn.Linear(2, 1)) == ""


def test_what_it_prints_stays_off_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, "print('importing')\n" + net(init="print('making')\nself.linear = nn.Linear(2, 1)"))
    assert capsys.readouterr() == ("", "importing\nmaking\n")


def test_what_it_changes_of_the_process_is_put_back(tmp_path: Path) -> None:
    search = sys.path[:]
    changes = (
        "import sys\nsys.path.insert(0, '/nowhere')\ntorch.set_default_dtype(torch.float64)\n"
        "torch.set_default_device('meta')\ntorch.set_default_device('cpu')\ntorch.set_grad_enabled(False)\n"
    )
    make(tmp_path, net(before=changes))
    assert sys.path == search
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert torch.zeros(1).device.type == "cpu"


# --- models that are not ----------------------------------------------------------------------------

BAD: dict[str, tuple[str, str]] = {
    "syntax": (HEAD + "class Net(nn.Module)\n    pass\n", "net.py, line 5: SyntaxError: expected ':'"),
    "not Python": ("\0", "net.py"),
    "import": ("import no_such_module_here\n" + NET, "net.py, line 1: ModuleNotFoundError: No module named"),
    "raises when imported": (HEAD + "1 / 0\n", "net.py, line 5: ZeroDivisionError"),
    "another name": (HEAD + "class Other(nn.Module):\n    pass\n", "net.py has no class Net"),
    "a function": (HEAD + "def Net():\n    return nn.Linear(2, 1)\n", "Net in net.py is no class"),
    "another class": ("class Net:\n    pass\n", "Net in net.py is no nn.Module"),
    "raises in __init__": (net("raise ValueError('too \\x1b[31mred')"), "net.py, line 8, in __init__: ValueError: too"),
    "no super": (HEAD + "class Net(nn.Module):\n    def __init__(self):\n        self.a = nn.Linear(2, 1)\n", "line 7"),
    "raises in forward": (net(forward="raise KeyError('oh')"), "net.py, line 11, in forward: KeyError: 'oh'"),
    "other features": (net("self.linear = nn.Linear(5, 1)"), "line 11, in forward: RuntimeError: mat1 and mat2"),
    "exits when imported": ("import sys\nsys.exit(3)\n", "net.py, line 2: it ends the program"),
    "exits in __init__": (net("raise SystemExit"), "line 8, in __init__: it ends the program"),
    "exits in forward": (net(forward="exit()"), "line 11, in forward: it ends the program"),
    "[n]": (net(forward="return self.linear(x).squeeze(1)"), "shape [n]"),
    "[n, 2]": (net("self.linear = nn.Linear(2, 2)"), "shape [n, 2]"),
    "one number": (net(forward="return self.linear(x).mean()"), "shape []"),
    "a tuple": (net(forward="return self.linear(x), None"), "gives a tuple, not a tensor"),
    "no forward": (HEAD + "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
                   "        self.a = nn.Linear(2, 1)\n", "NotImplementedError"),
    "two inputs": (net().replace("forward(self, x)", "forward(self, x, z)"), "missing 1 required positional argument"),
    "whole numbers": (net(forward="return self.linear(x).long()"), "gives int64"),
    "another dtype": (net(forward="return self.linear(x).double()"), "gives float64 for inputs and parameters"),
    "no parameters": (net("pass", "return x[:, :1]"), "no parameters"),
    "all frozen": (net("self.linear = nn.Linear(2, 1).requires_grad_(False)"), "are frozen"),
    "detached": (net(forward="return self.linear(x).detach()"), "does not depend on any parameter"),
    "complex": (net("self.linear = nn.Linear(2, 1)\nself.w = nn.Parameter(torch.ones(1, dtype=torch.complex64))"),
                "w is complex64"),
    "sparse": (net("self.linear = nn.Linear(2, 1)\nself.register_buffer('w', torch.eye(2).to_sparse())"), "is sparse"),
    "recursion": (net(forward="return self.forward(x)"), "RecursionError"),
    "a BaseException": (HEAD + "class Odd(BaseException):\n    pass\nraise Odd\n", "line 7: Odd"),
    "a broken repr": (net() + "\n    def __repr__(self):\n        return 1 / 0\n", "in __repr__: ZeroDivisionError"),
    "no memory": (net("self.linear = nn.Linear(2, 10**15)"), "line 8, in __init__: RuntimeError"),
    "on the meta device": (net("self.linear = nn.Linear(2, 1, device='meta')"), "NotImplementedError"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_models(tmp_path: Path, name: str) -> None:
    text, message = BAD[name]
    assert message in refused(tmp_path, text).message


def test_a_mistake_in_a_module_beside_it_is_told_of_that(tmp_path: Path) -> None:
    path = write(tmp_path, "def tanh(x):\n    return x.tahn()\n", "layers.py")
    text = net(forward="from layers import tanh\nreturn tanh(self.linear(x))")
    assert "layers.py, line 2, in tanh: AttributeError" in refused(tmp_path, text).message
    path.write_text("def tanh(x)\n")
    assert "layers.py, line 1: SyntaxError" in refused(tmp_path, text).message
    path.write_text("\n\nnothing\n")
    assert "layers.py, line 3: NameError" in refused(tmp_path, text).message
    path.write_text("from torch import tanh\n")
    make(tmp_path, text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hiden": 3}, "unexpected keyword argument 'hiden'"),
        ({"hidden": "x"}, "net.py, line 8, in __init__: TypeError"),
    ],
)
def test_arguments_that_do_not_fit(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    problem = refused(tmp_path, NET, arguments=arguments)
    assert message in problem.message
    if "unexpected" in message:
        assert "Net(hidden=4, bias=True)" in problem.advice


@pytest.mark.parametrize("place", ["missing.py", ".", "missing/net.py", "n" * 300 + ".py"])
def test_a_file_that_is_not_there(tmp_path: Path, place: str) -> None:
    with pytest.raises(WorkflowError) as caught:
        build.build(spec(tmp_path / place), 2)
    assert "cannot be read" in caught.value.problem.message


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.py")
    with pytest.raises(WorkflowError, match="not a file of Python code"):
        build.build(spec(tmp_path / "net.py"), 2)


def test_control_c_is_not_taken_for_a_mistake_of_theirs(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, "raise KeyboardInterrupt\n")


def test_what_fails_only_later_is_told_by_its_line_as_well(tmp_path: Path) -> None:
    model = make(tmp_path, net(forward="if x.sum() > 5:\n    raise ValueError('large')\nreturn self.linear(x)"))
    assert len(build.predict(model, [[1.0, 1.0]])) == 1
    with pytest.raises(WorkflowError, match=r"net\.py, line 12, in forward: ValueError: large"):
        build.predict(model, [[9.0, 9.0]])
    moody = make(tmp_path, net(forward="return self.linear(x)[: 4]"))
    with pytest.raises(WorkflowError, match=r"shape \[4, 1\]"):
        build.predict(moody, [[1.0, 1.0]] * 5)


def test_a_mistake_of_ours_is_not_told_as_theirs() -> None:
    with pytest.raises(ZeroDivisionError), custom.explained():
        _ = 1 / 0
