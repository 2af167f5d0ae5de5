"""Spacing from two places in the metadata, one of which may be missing, senseless or wrong."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.dicom.attributes import number, values_of
from connectors.dicom.spacing import spacing_of, with_spacing
from models.domain.errors import SpacingContradictory
from tests.unit.connectors.dicom.instances import element, having, instance, measures, without

_WIDTH, _HEIGHT, _SHARED, _PER_FRAME = "00480001", "00480002", "52009229", "52009230"


@pytest.mark.parametrize("factors", [(1.06, 1.0), (1.0, 1.06), (0.94, 1.0), (2.0, 2.0)])
def test_a_contradiction_is_refused(factors: tuple[float, float]) -> None:
    """Row 15: more than 5 % apart in x or y is refused with both values, and either is believed on request."""
    item = instance("1.1") | {_SHARED: measures(0.0005 * factors[1], 0.0005 * factors[0])}
    with pytest.raises(SpacingContradictory, match=r"Imaged Volume says 0\.5 um/px, Pixel Spacing says .*spacing-from"):
        spacing_of(item)
    assert spacing_of(item, "imaged-volume").um == pytest.approx((0.5, 0.5))
    found = spacing_of(item, "pixel-spacing")
    assert found.um == pytest.approx((0.5 * factors[0], 0.5 * factors[1]))
    assert "pixel-spacing was believed" in found.note


@pytest.mark.parametrize("factor", [0.96, 1.0, 1.04])
def test_what_agrees_is_not_noted(factor: float) -> None:
    """Within 5 % the Imaged Volume counts, as it does for EZ-WSI, whatever is asked for."""
    item = instance("1.1") | {_SHARED: measures(0.0005 * factor, 0.0005 * factor)}
    for believe in ("", "imaged-volume", "pixel-spacing"):
        found = spacing_of(item, believe)  # type: ignore[arg-type]
        assert (found.um, found.note) == ((0.32 / 640 * 1000, 0.16 / 320 * 1000), "")


def test_small_levels_round_their_sides() -> None:
    """A level of 7 x 5 px that keeps the extent of one of 7.8 x 5.4 contradicts nobody; one of 5 x 5 does."""
    item = having(having(instance("1.1"), "00480006", 7), "00480007", 5)
    item |= {_WIDTH: element("FL", 7.8), _HEIGHT: element("FL", 5.4), _SHARED: measures(1.0, 1.0)}
    assert spacing_of(item).um == pytest.approx((7800 / 7, 5400 / 5))
    with pytest.raises(SpacingContradictory):
        spacing_of(having(item, "00480006", 5))


@pytest.mark.parametrize("where", [_SHARED, _PER_FRAME])
@pytest.mark.parametrize("spacing", [(0.0005, 0.00025), ("0.0005", "0.00025")])
def test_pixel_spacing_alone(where: str, spacing: tuple[Any, Any]) -> None:
    """Row 13: Pixel Spacing counts rows first, may be in quotes, and may stand with each frame."""
    item = without(instance("1.1"), _WIDTH, _HEIGHT, _SHARED) | {where: measures(*spacing)}
    found = spacing_of(item)
    assert found.um == (0.25, 0.5)
    assert found.note == "spacing is from Pixel Spacing, the Imaged Volume is absent"


def test_imaged_volume_alone() -> None:
    """Row 14: the Imaged Volume is enough; nothing is changed for EZ-WSI."""
    item = without(instance("1.1"), _SHARED)
    found = spacing_of(item)
    assert found.um == pytest.approx((0.5, 0.5))
    assert "Pixel Spacing is absent" in found.note
    assert with_spacing(item, found) is item


_SENSELESS: list[list[Any]] = [
    [],
    [0.5],
    [0, 0],
    [-1, 1],
    [1, float("nan")],
    [1, 1e9],
    [1e-9, 1],
    ["a", "b"],
    [None, 1],
]


@pytest.mark.parametrize("spacing", [*_SENSELESS, [1, 1, 1], [True, None]])
def test_senseless_pixel_spacing_is_none(spacing: list[Any]) -> None:
    """Zero, negative, endless, absurd, too few, too many: as if it were not there."""
    item = without(instance("1.1"), _WIDTH, _HEIGHT) | {_SHARED: measures(*spacing)}
    assert spacing_of(item).um is None
    assert "unknown" in spacing_of(item).note
    assert spacing_of(instance("1.1") | {_SHARED: measures(*spacing)}).um == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("volume", [part for part in _SENSELESS if len(part) == 2 and part != [None, 1]])
def test_senseless_imaged_volume_is_none(volume: list[Any]) -> None:
    """The same for the Imaged Volume."""
    item = having(having(instance("1.1"), _WIDTH, volume[0] * 640), _HEIGHT, volume[1] * 320)
    found = spacing_of(item)
    assert found.um == pytest.approx((0.5, 0.5))
    assert "Pixel Spacing" in found.note


_SPACING = st.floats(1e-3, 1e3)


@given(_SPACING, _SPACING)
def test_ez_wsi_reads_what_was_decided(across: float, down: float) -> None:
    """What is completed for EZ-WSI gives it, by its own division, the spacing that was decided."""
    item = without(instance("1.1"), _WIDTH, _HEIGHT) | {_SHARED: measures(down / 1000, across / 1000)}
    before = repr(item)
    completed = with_spacing(item, spacing_of(item))
    assert number(completed, _WIDTH) / 640 * 1000 == pytest.approx(across, rel=1e-12)
    assert number(completed, _HEIGHT) / 320 * 1000 == pytest.approx(down, rel=1e-12)
    assert spacing_of(completed).um == pytest.approx((across, down), rel=1e-12)
    assert repr(item) == before


def test_ez_wsi_is_told_that_the_spacing_is_unknown() -> None:
    """EZ-WSI takes a level without spacing only if it is not called VOLUME."""
    item = without(instance("1.1"), _SHARED, _HEIGHT)
    completed = with_spacing(item, spacing_of(item))
    assert values_of(completed, "00080008") == ["ORIGINAL", "PRIMARY", "NONE"]
    assert _WIDTH not in completed
    only = having(item, "00080008", "VOLUME")
    assert values_of(with_spacing(only, spacing_of(only)), "00080008") == ["ORIGINAL", "PRIMARY"]
