"""The lines of a step that a learner follows, where all of them are too many for a panel beside its figures."""

from __future__ import annotations

import ast
import re

ENOUGH = 12
"""Up to so many lines are shown as they are."""
LONG = 5
"""A statement of more lines than this, such as the rows of a sample, is shown by its beginning and its end."""
LEFT_OUT = "# …"
FOLLOWED = re.compile(r"(table|target|features|numbers|values|order|train|val|test|[Xy](_\w+)?)$")
"""What the data are called on their way from the file to the model."""


def digest(source: str) -> str:
    """The statements of `source` that make the data from what they were before; `# …` stands for all others.

    What is left are lines of `source`, unchanged and in their order: checks, helpers and long lists are left out.
    """
    if source.count("\n") <= ENOUGH:
        return source
    lines = source.splitlines()
    kept: list[str] = []
    end = 0
    for node in ast.parse(source).body:
        first, last = node.lineno - 1, node.end_lineno or node.lineno
        # an empty line and a note between two statements belong to the second one
        between = lines[end:first]
        end = last
        if _is_followed(node) or any("Path(" in line for line in lines[first:last]):
            kept += between + _shortened(lines[first:last])
        elif kept[-1:] != [LEFT_OUT]:
            kept += ["", LEFT_OUT] if between[:1] == [""] and kept else [LEFT_OUT]
    return "\n".join(kept) + "\n"


def _is_followed(node: ast.stmt) -> bool:
    if isinstance(node, ast.FunctionDef):
        return node.name == "standardize"
    if isinstance(node, ast.Expr):  # such as torch.manual_seed(42)
        return True
    if not isinstance(node, ast.Assign):
        return False
    names = [part for target in node.targets for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return all(isinstance(name, ast.Name) and FOLLOWED.match(name.id) for name in names)


def _shortened(statement: list[str]) -> list[str]:
    left = len(statement) - 3
    if len(statement) <= LONG:
        return statement
    return [*statement[:2], f"    # … {left} lines more", statement[-1]]
