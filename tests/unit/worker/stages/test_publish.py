"""Each sink learns what those before it have written; the first that fails ends it."""

import pytest

from connectors.protocols import Result
from models.domain.embedding import Output
from models.domain.errors import OutputUnavailable
from tests.unit.connectors.dicom.results import make_result
from worker.stages.publish import publish_result


class _Sink:
    """Takes note of what was there before it."""

    def __init__(self, *kinds: str, fails: bool = False) -> None:
        self._kinds, self._fails = kinds, fails
        self.saw: list[tuple[str, ...]] = []

    def write(self, result: Result) -> tuple[Output, ...]:
        """Leave an output of each kind."""
        self.saw.append(tuple(output.kind for output in result.written))
        if self._fails:
            raise OutputUnavailable("full")
        return tuple(Output(kind, f"/{kind}", "ab") for kind in self._kinds)

    def holds(self, output: Output) -> bool:
        """Hold nothing."""
        del output
        return False

    def close(self) -> None:
        """Do nothing."""


def test_what_was_written_is_handed_on() -> None:
    """In order: the second knows of the first's, and all of it is the outcome."""
    first, second = _Sink("parquet", "trident"), _Sink("report")
    outputs = publish_result(make_result(2, 3, None), [first, second])
    assert [output.kind for output in outputs] == ["parquet", "trident", "report"]
    assert (first.saw, second.saw) == ([()], [("parquet", "trident")])


def test_the_first_that_fails_ends_it() -> None:
    """Nothing is written that comes after."""
    second = _Sink("report")
    with pytest.raises(OutputUnavailable):
        publish_result(make_result(2, 3, None), [_Sink(fails=True), second])
    assert second.saw == []
