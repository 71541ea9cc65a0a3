"""Every epoch goes over every row once, dealt anew, in an order that depends on its seed alone."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from workflow_core.steps.batches import Batches


def rows(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    X = torch.arange(count * 2.0).reshape(count, 2)
    return X, X[:, :1] * 10


@given(count=st.integers(1, 60), size=st.integers(0, 70), seed=st.integers(0, 2**63 - 1))
def test_every_row_once_an_epoch_with_its_own_target(count: int, size: int, seed: int) -> None:
    X, y = rows(count)
    batches = Batches(X, y, size, seed)
    for _ in range(2):
        dealt = list(batches)
        assert [len(part) for part, _ in dealt] == batches.sizes
        assert all(torch.equal(part[:, :1] * 10, targets) for part, targets in dealt)
        assert sorted(torch.cat([part for part, _ in dealt])[:, 0].tolist()) == X[:, 0].tolist()
        assert all(len(part) == size for part, _ in dealt[:-1])
        if size:
            assert len(dealt) == -(-count // size)


def test_the_full_batch_is_the_rows_themselves() -> None:
    X, y = rows(5)
    ((part, targets),) = Batches(X, y, 0, 1)
    assert part is X
    assert targets is y


def test_fewer_rows_than_a_batch_are_dealt_to_a_single_one() -> None:
    X, y = rows(5)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(1))
    for size in (5, 6, 10_000_000):
        batches = Batches(X, y, size, 1)
        ((part, targets),) = batches
        assert torch.equal(part, X[order])
        assert torch.equal(targets, y[order])
        assert batches.sizes == [5]


def test_each_epoch_has_another_order_that_the_seed_alone_decides() -> None:
    def orders(seed: int, noise: int) -> list[list[float]]:
        batches = Batches(*rows(40), 7, seed)
        result = []
        for _ in range(3):
            torch.manual_seed(noise)
            result.append(torch.cat([part for part, _ in batches])[:, 0].tolist())
        return result

    first = orders(42, 1)
    assert first == orders(42, 2)
    assert first != orders(43, 1)
    assert len({tuple(order) for order in first}) == 3


def test_the_order_is_that_of_a_randperm_with_the_same_seed() -> None:
    X, y = rows(11)
    generator = torch.Generator().manual_seed(42)
    batches = Batches(X, y, 4, 42)
    for _ in range(2):
        order = torch.randperm(11, generator=generator)
        assert torch.equal(torch.cat([part for part, _ in batches]), X[order])
