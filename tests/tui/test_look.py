"""Where a person looks on charts over epochs: always a window within the run, and an epoch within the window."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from workflow_tui.instruments.look import LEAST, Look

Move = Callable[[Look, int, int], Look]

MOVES: st.SearchStrategy[Move] = st.one_of(
    st.integers(-300, 300).map(lambda by: lambda look, planned, done: look.moved(by, 58, planned, done)),
    st.integers(-5, 2_000_000).map(lambda epoch: lambda look, planned, done: look.at(epoch, planned, done)),
    st.sampled_from([0.25, 0.5, 2.0, 4.0]).map(
        lambda factor: lambda look, planned, done: look.zoomed(factor, planned, done)
    ),
    st.sampled_from([-2.0, -0.5, 0.5, 3.0]).map(lambda by: lambda look, planned, done: look.panned(by, planned, done)),
    st.just(lambda look, planned, done: look.recently()),
)
PLANNED = st.integers(1, 1_000_000)


@given(PLANNED, st.data(), st.lists(MOVES, max_size=12))
def test_what_is_shown_lies_within_the_run_and_what_is_looked_at_within_what_is_shown(
    planned: int, data: st.DataObject, moves: list[Move]
) -> None:
    done = data.draw(st.integers(0, planned))
    look = Look()
    for move in moves:
        look = move(look, planned, done)
        done = data.draw(st.integers(done, planned))
        start, stop = look.shown(planned, done)
        assert 0 <= start < stop <= planned
        assert stop - start >= min(LEAST, planned)
        if look.epoch is not None:
            assert 0 <= look.epoch < done
            assert start <= look.epoch < stop


def test_a_column_is_a_step_and_never_less_than_an_epoch() -> None:
    look = Look().at(500, 1000, 800)
    assert look.moved(1, 50, 1000, 800).epoch == 520
    assert look.moved(-1, 50, 1000, 800).epoch == 480
    assert look.moved(1, 5000, 1000, 800).epoch == 501
    assert look.moved(1000, 50, 1000, 800).epoch == 799
    assert Look().moved(-1, 50, 1000, 800).epoch == 779, "the first move leaves the last epoch that is done"


def test_zoom_keeps_the_epoch_in_its_place_until_an_end_is_in_the_way() -> None:
    look = Look().at(250, 1000, 800)
    near = look.zoomed(0.5, 1000, 800)
    assert near.window == (125, 625)
    assert near.epoch == 250
    assert near.zoomed(2, 1000, 800).window is None, "all of it is no window"
    closest = look
    for _ in range(20):
        closest = closest.zoomed(0.5, 1000, 800)
    assert closest.window is not None
    assert closest.window[1] - closest.window[0] == LEAST
    assert closest.window[0] <= 250 < closest.window[1]


def test_the_window_follows_the_epoch_that_is_looked_at() -> None:
    look = Look(window=(100, 200)).at(150, 1000, 800)
    assert look.at(90, 1000, 800).window == (90, 190)
    assert look.at(210, 1000, 800).window == (111, 211)
    assert look.at(120, 1000, 800).window == (100, 200)


def test_recent_epochs_follow_the_run_until_one_of_them_is_looked_at() -> None:
    look = Look().recently()
    assert look.shown(1000, 50) == (0, 100)
    assert look.shown(1000, 700) == (600, 700)
    held = look.at(650, 1000, 700)
    assert held.shown(1000, 900) == (600, 700), "it stays where it was when somebody looked"
    assert look.recently() == Look()


def test_nothing_is_looked_at_before_there_is_an_epoch() -> None:
    for look in (Look().at(3, 100, 0), Look().moved(1, 50, 100, 0)):
        assert look == Look()
