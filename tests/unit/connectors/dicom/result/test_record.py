"""The record in an annotations object: read as it was written, that of version 1, too, and refused when damaged."""

import json
from typing import Any

import pytest

from connectors.dicom.result.parts import divide
from connectors.dicom.result.record import Record
from models.domain.errors import ResultCorrupt
from tests.unit.connectors.dicom.results import make_result, rich_header


def written() -> Record:
    """Return the record of a small result."""
    result = make_result(5, 8, rich_header())
    [part] = divide(result.embeddings)
    return Record.of(part, result.provenance, 2)


def damaged(**changes: Any) -> str:
    """Return its text with other fields; None: without."""
    data = json.loads(written().to_text()) | changes
    return json.dumps({name: value for name, value in data.items() if name not in changes or value is not None})


def test_it_is_read_as_it_was_written() -> None:
    """Every field comes back."""
    record = Record.from_text(written().to_text())
    assert record is not None
    assert {name: getattr(record, name) for name in Record.__slots__ if name != "provenance"} == {
        name: getattr(written(), name) for name in Record.__slots__ if name != "provenance"
    }
    assert json.dumps(record.provenance) == json.dumps(dict(sorted(written().provenance.items())))


def test_version_1_is_read_as_the_only_part() -> None:
    """What earlier releases wrote is one object with all patches."""
    old = {name: json.loads(written().to_text())[name] for name in ("values_sha256", "provenance")}
    record = Record.from_text(json.dumps({"record": 1, **old}))
    assert record is not None
    assert (record.part, record.parts, record.first, record.patches) == (1, 1, 0, None)
    assert record.whole_sha256 == record.values_sha256 == written().values_sha256
    assert (record.fallbacks, record.holes) == (None, 0)


@pytest.mark.parametrize("text", ["", "crop=224", "[1]", "17", '{"values_sha256": ""}', "[" * 100_000])
def test_the_text_of_others_is_none_of_ours(text: str) -> None:
    """Algorithm Parameters of another writer are no damage."""
    assert Record.from_text(text) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"part": 0},
        {"part": 2},
        {"parts": 0},
        {"first": -1},
        {"holes": -1},
        {"holes": "none"},
        {"patches": float("inf")},
        {"whole_sha256": None},
        {"provenance": [1]},
        {"provenance": {}},
        {"record": 3},
        {"record": "2"},
        {"fallbacks": "some"},
    ],
)
def test_damage_is_named(changes: dict[str, Any]) -> None:
    """A field that is missing or cannot be is an error, never a guess."""
    with pytest.raises(ResultCorrupt):
        Record.from_text(damaged(**changes))
