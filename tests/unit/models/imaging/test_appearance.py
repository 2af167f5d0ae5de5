"""How patches look: stains come back as they were mixed, and blur lowers the sharpness."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.imaging.appearance import Appearance
from models.imaging.stain import LIGHT, PUBLISHED


def stained(haematoxylin: float, eosin: float, side_px: int = 32) -> NDArray[np.uint8]:
    """Return a patch of one mixture of the published stains."""
    density = np.asarray(PUBLISHED.stains) @ (haematoxylin, eosin)
    colour = np.rint(LIGHT * np.exp(-density) - 1).astype(np.uint8)
    return np.broadcast_to(colour, (side_px, side_px, 3)).copy()


@pytest.mark.parametrize("mixture", [(0.5, 0.5), (1.2, 0.3), (0.4, 0.9)])
def test_stains_come_back(mixture: tuple[float, float]) -> None:
    """What was mixed is what is measured, but for the rounding of a byte."""
    found = Appearance.of(stained(*mixture)[None]).stains
    assert found[0] == pytest.approx(mixture, abs=0.03)


def test_glass_does_not_dilute() -> None:
    """Half a patch of glass changes nothing; a patch of little else but glass has no amounts."""
    patch = stained(0.8, 0.4)
    patch[:16] = 240
    mostly = patch.copy()
    mostly[:31] = 240
    found = Appearance.of(np.stack([patch, mostly])).stains
    assert found[0] == pytest.approx((0.8, 0.4), abs=0.03)
    assert np.isnan(found[1]).all()


def test_blur_lowers_the_sharpness() -> None:
    """The same picture out of focus is less sharp; a flat one not at all."""
    sharp = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    blurred = np.asarray(cv2.GaussianBlur(sharp, (0, 0), 2))
    found = Appearance.of(np.stack([sharp, blurred, stained(0.5, 0.5)])).sharpness
    assert found[0] > 10 * found[1] > 0
    assert found[2] == 0


def test_parts_are_joined() -> None:
    """Batches looked at one by one are the same as all at once; of none there is nothing."""
    patches = np.random.default_rng(2).integers(0, 200, (5, 16, 16, 3), np.uint8)
    joined = Appearance.join([Appearance.of(patches[:2]), Appearance.of(patches[2:])])
    whole = Appearance.of(patches)
    assert np.array_equal(joined.stains, whole.stains)
    assert np.array_equal(joined.sharpness, whole.sharpness)
    none = Appearance.join([])
    assert (len(none), none.stains.shape) == (0, (0, 2))
    assert len(Appearance.of(patches[:0])) == 0
