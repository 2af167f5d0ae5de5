"""Which cases of a test run with every change, and which by `make test-faults` only."""

from collections.abc import Collection, Iterable

import pytest


def some_quick(cases: Iterable[object], quick: Collection[object]) -> list[object]:
    """Return cases as parameters, all but the quick ones marked as faults."""
    return [pytest.param(case, id=str(case), marks=() if case in quick else pytest.mark.faults) for case in cases]
