"""The contents of a saved file as a tree: tensors with shape, dtype, bytes and values, and plain entries."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from workflow_core.protocol import FileView, TensorView
from workflow_core.sanitize import sanitize
from workflow_tui import figures
from workflow_tui.tables import file_facts


class FileTree(Tree[None]):
    """One file's contents; every label is sanitised text, never markup."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(Text("no file"), id=id, classes="panel")
        self.show_root = True
        self.guide_depth = 2
        self._shown: tuple[FileView | None, str] | None = None

    def show(self, file: FileView | None, hint: str, *, stale: bool = False) -> None:
        """Show `file`, or `hint` where there is none; in one colour where it is `stale`."""
        self.set_class(stale, "-stale")
        if (file, hint) == self._shown:
            return
        self._shown = (file, hint)
        self.clear()
        self.show_guides = file is not None
        if file is None:
            self.root.set_label(Text(hint))
            self.root.allow_expand = False
            return
        self.root.set_label(Text(sanitize(file.path.rpartition("/")[2], 60)))
        for fact in file_facts(file):
            self.root.add_leaf(Text(fact))
        groups: dict[str, list[TensorView]] = {}
        for tensor in file.tensors:
            group, _, _ = tensor.name.rpartition(".")
            groups.setdefault(group, []).append(tensor)
        for group, tensors in groups.items():
            branch = self.root.add(Text(sanitize(group, 60)), expand=True) if group else self.root
            for tensor in tensors:
                _add(branch, tensor)
        for name, value in file.values.items():
            # the key is the custom in PyTorch; everywhere else here an epoch is named, and the first is 0
            meaning = " epochs done" if name == "epoch" and file.kind == "checkpoint" else ""
            self.root.add_leaf(Text.assemble((sanitize(name, 60), "bold"), "  ", sanitize(value, 120), meaning))
        self.root.expand()


def _add(branch: TreeNode[None], tensor: TensorView) -> None:
    name = sanitize(tensor.name.rpartition(".")[2], 60)
    node = branch.add(
        Text.assemble((name, "bold"), f"  {figures.shape(tensor.shape)} {tensor.dtype} {figures.size(tensor.size)}"),
        expand=True,
        allow_expand=bool(tensor.values),
    )
    if tensor.values:
        node.add_leaf(Text(" ".join(figures.full(value) for value in tensor.values)))
