"""The registry: found by name, loaded on first use, and never two of one name."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import models.members
from connectors.registry import SINKS
from models.domain.errors import RequestError, UnknownEncoder, WeightsInvalid
from models.domain.patch import Rows
from models.encoders import registry
from models.encoders.pixel_grid import MODEL
from models.encoders.protocol import Encoder, EncoderSpec, Model
from models.encoders.registry import FAMILIES, GROUP, families, find, names
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


@dataclass(frozen=True)
class _Model:
    """An encoder of three numbers that returns what it is told to."""

    name: str = "told"
    rows: Rows = field(default_factory=lambda: Rows(np.ones((1, 3), np.float32)))

    @property
    def spec(self) -> EncoderSpec:
        """That of the grid, with another name and size."""
        return replace(MODEL.spec, name=self.name, dimension=3, patches_px=(48,))

    def settle(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """Take all."""
        return options

    def weights(self, given: Path | None, store: Path | None = None) -> Path | None:
        """Need none."""
        del store
        return given

    def load(self, weights: Path | None, options: Mapping[str, str], device: str = "auto") -> Encoder:
        """Return itself."""
        del weights, options, device
        return self

    def encode(self, pixels: NDArray[np.uint8]) -> Rows:
        """Return what was told, for a patch of the usual size."""
        assert pixels.shape == (1, 48, 48, 3)
        return self.rows


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[Model], None]:
    """Register for the length of a test."""
    monkeypatch.setattr(registry, "_registered", {})
    return registry.register


def test_a_program_registers_its_own(register: Callable[[Model], None]) -> None:
    """It is found and listed beside the installed ones; registering it again changes nothing."""
    mine = _Model()
    for _ in range(2):
        register(mine)
    assert find("told") is mine
    assert {"told", "pixel-grid"} <= set(names())


@pytest.mark.parametrize("name", ["told", "pixel-grid"])
def test_a_name_that_is_taken(register: Callable[[Model], None], name: str) -> None:
    """Neither an installed encoder nor another registered one is replaced."""
    register(_Model())
    with pytest.raises(RequestError, match=f"{name}.* already"):
        register(_Model(name=name))


def test_a_family_makes_encoders_by_the_rest_of_their_names(installed: list[EntryPoint]) -> None:
    """What follows the colon is the family's business."""
    installed.append(EntryPoint("told", "builtins:str", FAMILIES))
    installed.append(EntryPoint("grid", "models.encoders.pixel_grid:MODEL", GROUP))
    assert families() == ("told",)
    assert find("told:a:b") == "a:b"
    with pytest.raises(UnknownEncoder, match="grid, told:NAME"):
        find("tale:a:b")


def test_a_model_that_nobody_can_run() -> None:
    """Who asks for one is told why it is not there."""
    with pytest.raises(UnknownEncoder, match="no public weights"):
        find("rudolfv")


@pytest.mark.parametrize(
    "rows",
    [
        Rows(np.ones((1, 4), np.float32)),
        Rows(np.ones((1, 3), np.float64)),  # type: ignore[arg-type]
        Rows(np.full((1, 3), np.nan, np.float32)),
        Rows(np.full((1, 3), np.inf, np.float32)),
        Rows(np.ones((1, 3), np.float32), np.zeros(2, np.bool_)),
        Rows(np.ones((1, 3), np.float32), np.zeros(1, np.int8)),  # type: ignore[arg-type]
    ],
)
def test_a_model_is_tried_before_it_is_used(rows: Rows) -> None:
    """What does not give what its spec says is refused when it is loaded."""
    with pytest.raises(WeightsInvalid, match="told"):
        registry.load(_Model(rows=rows), Path("weights"), {})


def test_a_model_that_works_is_loaded() -> None:
    """One patch of noise is all it costs."""
    model = _Model()
    assert registry.load(model, None, {}) is model
