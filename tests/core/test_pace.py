"""The pace does not drift, does not race after a long sleep, and its rate is that of the last second."""

from __future__ import annotations

import pytest

from workflow_core.engine.pace import LATE, Meter, Pace
from workflow_core.engine.timing import Timing


def test_delays_do_not_add_up() -> None:
    pace = Pace(10.0)
    pace.start(100.0)
    now = 100.0
    for _ in range(50):
        now += pace.wait(now) + 0.03  # every epoch takes 30 ms, and is noticed late
        pace.count()
    assert pace.wait(now) == pytest.approx(105.0 - now)


def test_a_machine_that_slept_does_not_race() -> None:
    pace = Pace(10.0)
    pace.start(0.0)
    pace.count()
    assert pace.wait(LATE + 500.0) == 0.0
    pace.count()
    assert pace.wait(LATE + 500.0) == pytest.approx(0.1)


def test_a_change_counts_from_the_last_epoch() -> None:
    pace = Pace(1.0)
    pace.start(0.0)
    pace.count()
    pace.change(4.0, 0.1)
    assert pace.wait(0.1) == pytest.approx(0.15)
    pace.change(2.0, 0.2)
    assert pace.wait(0.2) == pytest.approx(0.3)
    pace.change(None, 0.2)
    assert pace.wait(0.2) == 0.0


def test_flat_out_never_waits() -> None:
    pace = Pace()
    assert pace.wait(0.0) == 0.0


def test_the_rate_is_that_of_the_last_second() -> None:
    meter = Meter()
    meter.restart(0.0, 0)
    for tenth in range(1, 31):
        rate = meter.mark(tenth / 10, tenth * (1 if tenth <= 15 else 100))
    assert rate == pytest.approx(1000.0)
    meter.restart(10.0, 0)
    for second in range(1, 5):
        rate = meter.mark(10.0 + second, second)
    assert rate == pytest.approx(1.0)


def test_a_clock_counts_what_lies_between_its_marks_and_a_rate_only_while_it_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("workflow_core.engine.timing.time.monotonic", lambda: now)
    clock = Timing(None, 0.0, elapsed=5.0)
    clock.start(0.0)
    with clock.work():
        now += 2.0
    assert clock.measure(10.0, running=True) == (5.0, 5.0)
    assert clock.elapsed == 7.0
    now += 3.0
    assert clock.measure(10.0, running=False) == (0.0, 5.0)
    now += 100.0
    clock.enter()
    now += 1.0
    clock.count()
    assert clock.elapsed == 11.0
    seconds, rates = clock.speed._rates.series()
    assert seconds[-1] == 5.0, "the speed is of this engine's seconds"
    assert rates[0] == 5.0
    clock.leave_out(20.0)
    with clock.work():
        now += 1.0
    assert clock.measure(30.0, running=True)[1] == 7.5  # the median of 5 and 10
