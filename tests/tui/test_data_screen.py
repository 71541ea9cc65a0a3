"""Step 1 on the screen: the course's data, its figures, and the commands its keys and fields send."""

from __future__ import annotations

import msgspec
from tests.tui.driving import done, driving

from workflow_core.errors import WorkflowError
from workflow_core.protocol import DataView, MakeData, Row, Update
from workflow_core.specs import DataSpec, SplitSpec


def data(**changes: object) -> DataView:
    """The recorded data, changed."""
    update = done(1)[0]
    assert isinstance(update, Update)
    assert isinstance(update.data, DataView)
    return msgspec.structs.replace(update.data, **changes)


async def test_the_first_visit_makes_the_data_once_and_shows_it() -> None:
    async with driving() as drive:
        assert drive.client.asked == [MakeData()]
        splits = drive.panel("#splits")
        for row in ("● train          35   70%  0 … 0.68", "▲ validation      7   14%", "◆ test            8   16%"):
            assert row in splits
        assert "X [50, 1] · y [50, 1] · float32 · cpu" in splits
        assert "0.84 … 0.98" in splits
        assert "  1   0.0200   0.3140  ● train" in drive.panel("#rows")
        scatter = drive.panel("#scatter")
        assert "50 rows" in scatter
        for name in ("true", "train", "val", "test"):
            assert name in scatter
        for marker in "●▲◆":
            assert scatter.count(marker) > 1
        assert "torch.arange(0.0, 1.0, 0.02)" in drive.text
        assert "extrapolation" in drive.status


async def test_what_is_done_already_is_shown_and_not_done_again() -> None:
    async with driving(steps=2) as drive:
        assert drive.client.asked == []
        assert "35   70%" in drive.text


async def test_space_makes_the_data_and_r_goes_back_to_the_defaults() -> None:
    async with driving(steps=1) as drive:
        await drive.press("space")
        assert drive.client.asked == [MakeData()]
        await drive.press("r")
        assert drive.client.asked[1:] == [MakeData(spec=DataSpec())], "nothing is lost, nothing is asked"


async def test_r_asks_before_settings_of_ones_own_are_lost() -> None:
    own = DataSpec(weight=2.0, spacing="uniform", standardize=True)
    for size in ((120, 40), (80, 24)):
        async with driving(steps=1, size=size) as drive:
            await drive.tell(Update(data_spec=own))
            await drive.press("r")
            await drive.sees("Back to the course's settings?", "weight 2", "spacing uniform", "standardise on")
            assert "No file is touched" not in drive.text
            await drive.press("escape")
            await drive.until(lambda: not drive.dialog)
            assert drive.client.asked == []
            await drive.press("r", "r")
            await drive.asks(MakeData(spec=DataSpec()))


async def test_a_failure_is_told_once_and_not_tried_again_behind_it() -> None:
    def broken(client: object) -> None:
        client.problems["MakeData"] = WorkflowError("No data", "the machine has no memory left.", "Take fewer rows.")  # type: ignore[attr-defined]

    async with driving(client=broken) as drive:
        await drive.sees("No data", "no memory left", "Take fewer rows.")
        await drive.press("enter")
        assert not drive.dialog
        assert drive.client.asked == [MakeData()]
        assert "space makes the data" in drive.panel("#scatter")
        assert "space makes the data" in drive.status
        assert "the first rows" in drive.panel("#rows")


async def test_fields_send_the_whole_spec_with_the_one_change() -> None:
    async with driving(steps=1) as drive:
        await drive.fill("#field-weight", "1.5")
        await drive.fill("#field-split", "70/10/20")
        assert drive.client.asked[0] == MakeData(spec=DataSpec(weight=1.5))
        split = drive.client.asked[1]
        assert isinstance(split, MakeData)
        assert split.spec is not None
        assert split.spec.split == SplitSpec(train=0.7, validation=0.1, test=0.2)
        await drive.fill("#field-seed", "7")
        last = drive.client.asked[2]
        assert isinstance(last, MakeData)
        assert last.spec is not None
        assert last.spec.seed == 7


async def test_splits_without_rows_are_shown_as_such() -> None:
    async with driving(steps=1) as drive:
        whole = data().splits
        empty = [
            msgspec.structs.replace(split, count=0, share=0.0, x_range=None, y_range=None, points=())
            for split in whole[1:]
        ]
        only = msgspec.structs.replace(whole[0], count=50, share=1.0)
        await drive.tell(Update(data=data(splits=(only, *empty), extrapolation="")))
        splits = drive.panel("#splits")
        assert "50  100%" in splits
        assert splits.count("0    0%  –") == 2
        assert "validation" not in drive.panel("#scatter")
        assert "2 or n: build" in drive.status


async def test_noisy_extreme_and_single_rows_are_drawn() -> None:
    async with driving(steps=1) as drive:
        one = msgspec.structs.replace(
            data().splits[0], count=1, share=1.0, x_range=(3.0, 3.0), y_range=(5.0, 5.0), points=((3.0, 5.0),)
        )
        await drive.tell(Update(data=data(rows=1, splits=(one,), line=((3.0, 5.0), (3.0, 5.0)))))
        assert "1 rows" in drive.panel("#scatter") or "1 row" in drive.panel("#scatter")
        huge = msgspec.structs.replace(one, x_range=(-1e30, 1e30), y_range=(-1e30, 1e30), points=((-1e30, 1e30),))
        head = (Row(index=0, x=(-1e30,), y=1e30, split="train"),)
        await drive.tell(Update(data=data(rows=1, splits=(huge,), head=head, line=())))
        assert "-1.00e+30" in drive.panel("#rows")
