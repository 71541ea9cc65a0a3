"""The table of kept runs as plain values: its order whatever it is sorted by, and cells that fit their columns."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.cells import cell_len
from tests.tui.fake_runs import HOSTILE, kept, many, several

from workflow_core.protocol import RunView
from workflow_core.specs import DataSpec, TrainSpec, WorkflowSpec
from workflow_tui.runs_table import COLUMNS, KEYS, Ledger, Order, fit

NOW = datetime(2023, 11, 15, 12, 0, tzinfo=UTC)


def numbers(runs: tuple[RunView, ...], order: Order) -> list[int]:
    """The runs' numbers in an order."""
    ledger = Ledger()
    ledger.take(runs)
    return [known.run.run for known in ledger.ordered(order)]


def table(
    runs: tuple[RunView, ...], *, order: Order | None = None, room: int = 120
) -> tuple[dict[str, tuple[str, str]], dict[int, dict[str, str]]]:
    """Heads and cells of a table by their columns, without their padding."""
    ledger = Ledger()
    ledger.take(runs)
    heads, rows = ledger.layout(order or Order(), room, NOW, {run.run: "   " for run in runs})
    cells = {
        number: {head.key: text.strip() for head, (text, _) in zip(heads, row, strict=True)}
        for number, row in rows.items()
    }
    return {head.key: (head.lines[0].strip(), head.lines[1].strip()) for head in heads}, cells


def test_at_first_the_newest_run_comes_first_below_the_pinned_ones() -> None:
    assert numbers(several(), Order()) == [2, 6, 5, 4, 3, 1]


def test_every_column_is_sorted_by_in_turn_and_the_first_again() -> None:
    order, seen = Order(), []
    for _ in COLUMNS:
        order = order.next()
        seen.append(order.by)
    assert seen == [*KEYS[1:], "run"]
    assert order == Order()


@pytest.mark.parametrize(
    ("by", "first"),
    [("name", [5, 3]), ("train", [1, 3]), ("val", [1, 3]), ("best", [1, 3]), ("time", [1, 3]), ("begun", [6, 5])],
)
def test_a_column_has_its_own_way_round_and_o_turns_it(by: str, first: list[int]) -> None:
    column = COLUMNS[KEYS.index(by)]
    order = Order(by, column.down)
    assert numbers(several(), order)[1:3] == first
    turned = numbers(several(), order.turned())
    assert turned[0] == 2, "a pinned run left the top"
    assert turned[1] != first[0]


@pytest.mark.parametrize("down", [False, True])
def test_what_has_no_finite_value_comes_last_either_way(down: bool) -> None:
    runs = (kept(4, train_loss=math.nan), kept(3, train_loss=None), kept(2, train_loss=math.inf), kept(1))
    assert numbers(runs, Order("train", down)) == [1, 4, 3, 2]


@pytest.mark.parametrize("down", [False, True])
def test_losses_of_one_kind_stand_together(down: bool) -> None:
    runs = tuple(
        kept(
            number, train={"loss": "l1" if number % 2 else "mse"}, train_loss=0.1 * number, val_loss=0.1, best_loss=0.1
        )
        for number in range(6, 0, -1)
    )
    kinds = [number % 2 for number in numbers(runs, Order("train", down))]
    assert kinds == [1, 1, 1, 0, 0, 0]


def test_names_are_in_the_order_of_people() -> None:
    runs = tuple(kept(index, name=name) for index, name in enumerate(("trial 10", "Trial 9", "trial 9b", "a"), start=1))
    assert numbers(runs, Order("name", False)) == [4, 2, 3, 1]


values = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))
drawn_runs = st.lists(
    st.builds(
        lambda number, loss, pinned, name: kept(number, train_loss=loss, best_loss=loss, pinned=pinned, name=name),
        st.integers(1, 99),
        values,
        st.booleans(),
        st.text(max_size=5),
    ),
    max_size=12,
    unique_by=lambda run: run.run,
)


@given(drawn_runs, st.sampled_from(KEYS), st.booleans())
def test_an_order_keeps_every_run_and_the_pinned_on_top(runs: list[RunView], by: str, down: bool) -> None:
    ordered = numbers(tuple(runs), Order(by, down))
    assert sorted(ordered) == sorted(run.run for run in runs)
    pinned = {run.run for run in runs if run.pinned}
    assert set(ordered[: len(pinned)]) == pinned
    again = numbers(tuple(reversed(runs)), Order(by, down))
    assert again == ordered, "equal runs change places with the order they come in"


def test_the_heads_say_what_the_losses_are_of_and_what_is_sorted_by() -> None:
    heads, _ = table(several())
    assert heads["run"][0] == "run▼"
    assert heads["train"] == ("train", "MSE")
    assert heads["best"] == ("best val", "MSE @ epoch")
    assert heads["epochs"] == ("epochs", "done/plan")
    assert "unit" not in heads
    std = tuple(kept(number, data={"standardize": True}) for number in (1, 2))
    assert table(std)[0]["train"] == ("train", "MSE std.")
    assert table(std, order=Order("val", False))[0]["val"] == ("val▲", "MSE std.")


def test_losses_of_several_kinds_get_a_column_that_says_each_ones() -> None:
    runs = (kept(3, train={"loss": "l1"}), kept(2, data={"standardize": True}), kept(1))
    heads, cells = table(runs)
    assert heads["train"] == ("train", "of its loss")
    assert [cells[number]["unit"] for number in (3, 2, 1)] == ["L1", "MSE std.", "MSE"]


def test_every_cell_of_a_run() -> None:
    _, cells = table(several(), room=200)
    assert cells[5] == {
        "marks": "",
        "run": "5",
        "name": "adam in batches",
        "settings": "lr 0.01, 0.005 from epoch 40 · Adam · batch 32",
        "state": "finished",
        "epochs": "100/100",
        "train": "0.0216",
        "val": "0.1080",
        "best": "0.1080 @ 99",
        "time": "0:10",
        "begun": "yesterday 22:18",
    }
    assert cells[4]["train"] == "NaN"
    assert cells[4]["val"] == "inf"


@pytest.mark.parametrize("room", [20, 80, 120, 200])
def test_cells_are_as_wide_as_their_columns_whatever_they_hold(room: int) -> None:
    long = kept(1_000_001, name=HOSTILE * 3, train={"epochs": 1_000_000_000}, epochs=999_999_999, state=HOSTILE)
    spec = WorkflowSpec(data=DataSpec(kind="table", file="/" + "幅" * 60, target="y"), train=TrainSpec(batch_size=7))
    ledger = Ledger()
    runs = (long, replace(kept(2), spec=spec), kept(1))
    ledger.take(runs)
    heads, rows = ledger.layout(Order(), room, NOW, {run.run: "*^~" for run in runs})
    for row in rows.values():
        for head, (text, _) in zip(heads[1:], row[1:], strict=True):
            assert cell_len(text) <= head.width - 1
            assert cell_len(head.lines[0]) == cell_len(head.lines[1]) == cell_len(text)
            assert not {"\x1b", "\u202e"} & set(text)


def test_columns_stay_where_they_are_when_another_one_is_sorted_by() -> None:
    ledger = Ledger()
    ledger.take(many(20))
    signs = {number: "   " for number in range(1, 21)}
    widths = {
        tuple(head.width for head in ledger.layout(Order(by, down), 120, NOW, signs)[0])
        for by in KEYS
        for down in (True, False)
    }
    assert len(widths) == 1


def test_settings_take_the_room_that_the_others_leave() -> None:
    texts = [table(several(), room=room)[1][5]["settings"] for room in (80, 120, 200)]
    assert texts[2] == "lr 0.01, 0.005 from epoch 40 · Adam · batch 32"
    assert len(texts[0]) < len(texts[1]) < len(texts[2])
    assert all(text.endswith("…") for text in texts[:2])


def test_a_run_that_came_later_changes_what_is_special_in_the_others() -> None:
    ledger = Ledger()

    def special(run: int) -> str | None:
        known = ledger.get(run)
        return None if known is None else known.special

    odd = kept(1, train={"batch_size": 32})
    ledger.take((odd,))
    assert special(1) == "lr 0.01 · SGD"
    ledger.take((kept(3), kept(2), odd))
    assert special(1) == "lr 0.01 · SGD · batch 32"
    ledger.take((kept(3, epochs=50), kept(2), odd))
    known = ledger.get(3)
    assert known is not None
    assert known.run.epochs == 50
    assert special(9) is None
    assert ledger.get(None) is None


@given(st.text(max_size=30), st.integers(0, 20), st.booleans())
def test_a_fitted_text_takes_exactly_its_room(text: str, width: int, right: bool) -> None:
    assert cell_len(fit(text, width, right=right)) == width
