"""Collect: what was embedded is safe, also when the work breaks off, and is put together whole or not at all."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from models.domain.errors import EmbeddingInvalid, Interrupted, ResultCorrupt
from models.domain.patch import BatchEmbedding, PatchGrid, Rows
from models.domain.plan import Plan
from tests.services.memory_slide import make_level, make_slide
from worker.stages import collect
from worker.stages.collect import assemble, collect_batches

Saved = list[tuple[int, int, Rows]]


class _Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    """Put the stage under a clock of the test's."""
    one = _Clock()
    monkeypatch.setattr(collect.time, "monotonic", one.monotonic)
    return one


def _batch(index: int, count: int = 2) -> BatchEmbedding:
    return BatchEmbedding(index, Rows(np.full((count, 3), index, np.float32)))


@pytest.mark.parametrize("error", [Interrupted("Stop."), ValueError("bug"), KeyboardInterrupt()])
def test_what_was_embedded_is_saved_when_the_work_breaks_off(error: BaseException) -> None:
    """An error, a bug or a signal costs nothing that was already embedded, and still gets through."""
    saved: Saved = []

    def broken() -> Iterator[BatchEmbedding]:
        yield _batch(0)
        yield _batch(1)
        raise error

    with pytest.raises(type(error)):
        collect_batches(broken(), lambda *part: saved.append(part), 1000.0)
    assert [(first, batches) for first, batches, _ in saved] == [(0, 2)]
    assert saved[0][2].matrix.tolist() == [[0] * 3] * 2 + [[1] * 3] * 2


def test_nothing_is_saved_of_nothing() -> None:
    """A shard that fails at once leaves no empty checkpoint."""
    saved: Saved = []
    assert collect_batches([], lambda *part: saved.append(part), 1.0) == 0
    assert saved == []


def test_a_save_that_fails_ends_the_work(clock: _Clock) -> None:
    """What cannot be kept safe is not worked on any further."""
    taken = []

    def batches() -> Iterator[BatchEmbedding]:
        for index in range(5):
            taken.append(index)
            clock.now += 10
            yield _batch(index)

    def full(*_: object) -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        collect_batches(batches(), full, 5.0)
    assert taken == [0]


def test_checkpoints_follow_the_clock(clock: _Clock) -> None:
    """Batches are saved together when the time is up, without gap or repetition, and the rest at the end."""
    saved: Saved = []

    def batches() -> Iterator[BatchEmbedding]:
        for index in range(8):
            clock.now += 4
            yield _batch(index, 1 if index == 7 else 2)

    assert collect_batches(batches(), lambda *part: saved.append(part), 10.0) == 15
    assert [(first, count, len(rows)) for first, count, rows in saved] == [(0, 3, 6), (3, 3, 6), (6, 2, 3)]
    assert Rows.join([rows for _, _, rows in saved]).matrix[:, 0].tolist() == sorted([*range(8), *range(7)])


def _plan() -> Plan:
    rows = np.array([2, 0, 1], np.int64)
    grid = PatchGrid(0, 8, (0.5, 0.5), np.arange(12, dtype=np.int32).reshape(3, 4), rows)
    return Plan(make_slide(make_level(64, 64)), grid, 3, 2, ())


@pytest.mark.parametrize("shapes", [[], [(2, 3)], [(2, 3), (2, 3)], [(3, 4)], [(2, 4), (1, 4)]])
def test_other_parts_than_the_plans_are_an_error(shapes: list[tuple[int, int]]) -> None:
    """Too few, too many or wider rows are not put together."""
    with pytest.raises(ResultCorrupt):
        assemble(_plan(), [Rows(np.zeros(shape, np.float32)) for shape in shapes], 3)


def test_parts_become_the_result() -> None:
    """Parts in reading order become rows in the order asked for."""
    parts = [np.array([[0, 0, 0], [1, 1, 1]], np.float32), np.array([[2, 2, 2]], np.float32)]
    assert assemble(_plan(), [Rows(part) for part in parts], 3).matrix[:, 0].tolist() == [1, 2, 0]


def test_an_empty_plan_becomes_an_empty_result() -> None:
    """No patches give no rows of the right width."""
    plan = _plan()
    empty = Plan(plan.slide, plan.grid[0:0], 3, 2, ())
    assert assemble(empty, [], 7).matrix.shape == (0, 7)


def test_holes_only_where_the_plan_allows_them() -> None:
    """A patch without an embedding is a hole in a job that was told to leave some, and an error in any other."""
    rows = np.array([[0, 0, 0], [np.nan] * 3, [2, 2, 2]], np.float32)
    assert assemble(replace(_plan(), missing="mask"), [Rows(rows)], 3).holes.tolist() == [True, False, False]
    with pytest.raises(EmbeddingInvalid, match="1 patches"):
        assemble(_plan(), [Rows(rows)], 3)


@pytest.mark.parametrize("missing", ["error", "mask"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_never_part_of_a_result(value: float, missing: Literal["error", "mask"]) -> None:
    """One component that is no finite number is no hole."""
    rows = np.array([[0, 0, 0], [1, value, 1], [2, 2, 2]], np.float32)
    with pytest.raises(EmbeddingInvalid):
        assemble(replace(_plan(), missing=missing), [Rows(rows)], 3)


def test_marks_come_into_the_order_asked_for() -> None:
    """What fell back in reading order is marked at its place in the result; a part without marks has none."""
    values = np.zeros((3, 3), np.float32)
    parts = [Rows(values[:2], np.array([True, False])), Rows(values[2:])]
    marks = assemble(_plan(), parts, 3).fallbacks
    assert marks is not None
    assert marks.tolist() == [False, False, True]
    assert assemble(_plan(), [Rows(values)], 3).fallbacks is None
