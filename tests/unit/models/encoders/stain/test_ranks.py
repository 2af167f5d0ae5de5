"""ranks: exactly the k-th smallest, by either way."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from models.encoders.stain import ranks  # noqa: E402 - imports torch

WAYS = [ranks.kth_smallest, ranks._by_halving]


@pytest.mark.parametrize("way", WAYS)
class TestKthSmallest:
    """Held against sorting."""

    @given(
        rows=st.lists(st.lists(st.floats(width=32, allow_nan=False), min_size=7, max_size=7), min_size=1, max_size=4),
        data=st.data(),
    )
    def test_any_numbers(self, way: Callable[..., object], rows: list[list[float]], data: st.DataObject) -> None:
        """Negative, infinite, tiny and equal ones, each row with a place of its own."""
        places = data.draw(st.lists(st.integers(0, 6), min_size=len(rows), max_size=len(rows)))
        found = way(torch.tensor(rows, dtype=torch.float32), torch.tensor(places))
        assert found.tolist() == [sorted(row)[place] for row, place in zip(rows, places, strict=True)]

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.4, 0.99, 1.0])
    @pytest.mark.parametrize("kind", ["noise", "ramp", "steps", "mostly infinite", "one value", "periodic"])
    def test_as_many_as_in_a_patch(self, way: Callable[..., object], share: float, kind: str) -> None:
        """Whatever a sample of them looks like: in order, in few steps, or with all others at its places."""
        count, random = 50_000, np.random.default_rng(3)
        values = {
            "noise": random.normal(size=count),
            "ramp": np.linspace(5, -5, count),
            "steps": random.integers(0, 3, count),
            "mostly infinite": np.where(random.random(count) < 0.99, np.inf, random.random(count)),
            "one value": np.full(count, -2.5),
            "periodic": np.where(np.arange(count) % ranks._STRIDE == 0, 9.0, random.random(count)),
        }[kind].astype(np.float32)
        place = round(share * (count - 1))
        found = way(torch.from_numpy(values)[None], torch.tensor([place]))
        assert found.item() == np.sort(values)[place]
