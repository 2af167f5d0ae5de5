"""The registry: found by name, loaded on first use, and never two of one name."""

import os
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import models.members
from connectors.registry import SINKS
from models.domain.errors import RequestError, UnknownEncoder, WeightsInvalid
from models.encoders.registry import GROUP, find, names, weights_digest
from models.members import load_member


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    """Let a test decide which entry points are installed."""
    found: list[EntryPoint] = []
    monkeypatch.setattr(models.members, "entry_points", lambda group: [one for one in found if one.group == group])
    models.members.members.cache_clear()
    yield found
    models.members.members.cache_clear()


def test_two_encoders_of_one_name_are_refused(installed: list[EntryPoint]) -> None:
    """Which of two encoders a name means is not left to chance; the message names both."""
    installed += [EntryPoint("uni", "one.package:MODEL", GROUP), EntryPoint("uni", "other.package:MODEL", GROUP)]
    with pytest.raises(RequestError, match=r"one\.package.*other\.package"):
        find("uni")


def test_one_encoder_seen_twice_is_one(installed: list[EntryPoint]) -> None:
    """The same entry point on two paths (an editable install) is no conflict."""
    value = "models.encoders.pixel_grid:MODEL"
    installed += [EntryPoint("grid", value, GROUP), EntryPoint("grid", value, GROUP)]
    assert names() == ("grid",)
    assert find("grid").spec.name == "pixel-grid"


def test_two_sinks_of_one_name_are_refused(installed: list[EntryPoint]) -> None:
    """The rule holds for sources and sinks too."""
    group = SINKS
    installed += [EntryPoint("files", "a:open", group), EntryPoint("files", "b:open", group)]
    with pytest.raises(RequestError, match="files"):
        load_member(group, "files")


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    """Who mistypes an encoder or a sink is told what there is."""
    with pytest.raises(UnknownEncoder, match="pixel-grid"):
        find("pixle-grid")
    with pytest.raises(RequestError, match="files"):
        load_member(SINKS, "file")


def test_digest_of_weights_that_are_not_there(tmp_path: Path) -> None:
    """A missing file or a folder is named, without its path."""
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(WeightsInvalid, match=path.name) as caught:
            weights_digest(path)
        assert str(tmp_path.parent) not in str(caught.value)


def test_digest_follows_the_file(tmp_path: Path) -> None:
    """A file that changes has another digest, though it was asked for before; no file has none."""
    path = tmp_path / "weights.pth"
    path.write_bytes(b"one")
    first = weights_digest(path)
    assert weights_digest(path) == first
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert weights_digest(path) != first
    assert weights_digest(None) == ""
