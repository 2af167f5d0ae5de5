"""The registry of layouts, and what it finds out before anything is computed."""

import sys

import pytest

from connectors.tables.registry import check_tables, find_table, table_names
from models.domain.errors import ExtraMissing, RequestError, ResultError
from tests.unit.connectors.tables.contents import make_content, told


def test_unknown_layouts_are_refused() -> None:
    """A name that is none is no layout."""
    with pytest.raises(RequestError, match="no-such"):
        find_table("no-such")


def test_layouts_of_the_field_are_there() -> None:
    """What the documentation promises is registered."""
    assert {"parquet", "numpy", "trident", "clam", "stamp", "slide2vec", "lazyslide"} <= set(table_names())


@pytest.mark.parametrize("name", ["trident", "stamp", "slide2vec"])
def test_what_a_layout_lacks_is_known_before(name: str) -> None:
    """Nobody waits for a slide to be embedded to be told that its spacing is unknown."""
    unknown = dict.fromkeys(("spacing_um", "level_0_spacing_um", "requested_spacing_um"))
    with pytest.raises(ResultError, match=f"The layout {name} .*spacing"):
        check_tables(["parquet", name], told(make_content(0), **unknown).provenance)


def test_all_layouts_hold_an_ordinary_result() -> None:
    """With a spacing, any of them may be asked for."""
    check_tables(table_names(), make_content(0).provenance)


@pytest.mark.parametrize("name", ["trident", "clam", "stamp"])
def test_a_missing_package_is_named_before(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Without h5py the error says what to install."""
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ExtraMissing, match=r"slidewire\[tables\]"):
        check_tables([name], make_content(0).provenance)
