"""stain: what images are brought to, as numbers, as text, and read off an image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import RequestError
from models.imaging.stain import PUBLISHED, StainReference, fit, optical_densities, rank
from tests.reference import macenko
from tests.services.slides import SlideOnDisk

_NUMBER = st.floats(allow_nan=False, allow_infinity=False)
_PAIR = st.tuples(_NUMBER, _NUMBER)


class TestText:
    """One line, which identifies a result."""

    @given(stains=st.tuples(_PAIR, _PAIR, _PAIR), most=_PAIR)
    def test_comes_back_to_the_last_bit(
        self, stains: tuple[tuple[float, float], ...], most: tuple[float, float]
    ) -> None:
        """Whatever the numbers are; and there is nothing in the line that a command or a file name would split."""
        reference = StainReference(stains, most)  # type: ignore[arg-type]
        text = reference.text()
        assert StainReference.parse(text) == reference
        assert StainReference.parse(text).text() == text
        assert StainReference.is_text(text)
        assert len(text.split()) == 1

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "macenko1",
            "macenko2:1:2:3:4:5:6:7:8",
            "macenko1:1:2:3:4:5:6:7",
            "macenko1:1:2:3:4:5:6:7:8:9",
            "macenko1:1:2:3:4:5:6:7:nan",
            "macenko1:1:2:3:4:5:6:inf:8",
            "macenko1:1:2:3:4:5:6:seven:8",
        ],
    )
    def test_anything_else_is_refused(self, text: str) -> None:
        """Of another version, too short or long, or no numbers."""
        with pytest.raises(RequestError, match="no stain reference"):
            StainReference.parse(text)

    def test_a_path_is_none(self) -> None:
        """Nobody's image is taken for numbers."""
        assert not StainReference.is_text("macenko1.png")
        assert not StainReference.is_text("published-default")


def test_the_published_default_is_the_reference_s() -> None:
    """Eight numbers, typed twice."""
    assert np.array_equal(np.float32(PUBLISHED.stains), macenko.DEFAULT.stains.numpy())
    assert np.array_equal(np.float32(PUBLISHED.most), macenko.DEFAULT.most.numpy())


def test_a_percentile_is_the_nearest_rank() -> None:
    """Halves go to the even one, as Python rounds."""
    assert [rank(1, count) for count in (1, 2, 51, 151, 50_176)] == [0, 0, 0, 2, 502]
    assert [rank(99, count) for count in (1, 2, 101)] == [0, 1, 99]


def test_light_has_no_density() -> None:
    """A byte of 239 lets all light through, darker ones less, and white more."""
    density = optical_densities()
    assert density.dtype == np.float32
    assert abs(density[239]) < 1e-6
    assert density[255] < 0
    assert np.all(np.diff(density) < 0)
    assert density[0] == pytest.approx(np.log(240), rel=1e-6)


class TestFit:
    """Reading the stains off an image."""

    def test_is_the_published_code_s(self, cmu_slide: SlideOnDisk) -> None:
        """Within that code's rounding, on real tissue."""
        for x, y, side in ((500, 900, 512), (1000, 1100, 256)):
            image = cmu_slide.patch(x, y, side)
            found, expected = fit(image), macenko.fit(image)
            assert np.abs(np.array(found.stains) - expected.stains.numpy()).max() < 5e-4
            assert np.abs(np.array(found.most) - expected.most.numpy()).max() < 5e-4 * max(found.most)

    def test_knows_stains_that_were_mixed(self) -> None:
        """Of an image mixed from two stains of known colours, it gives these colours and the most of each."""
        stains = np.array([[0.65, 0.30], [0.70, 0.80], [0.29, 0.52]])
        stains /= np.linalg.norm(stains, axis=0)
        amounts = np.random.default_rng(1).uniform(0, 1.5, (300 * 300, 2))
        pure = len(amounts) // 20
        amounts[:pure, 0], amounts[pure : 2 * pure, 1] = 0, 0
        image = np.clip(np.rint(240 * np.exp(-amounts @ stains.T) - 1), 0, 255).astype(np.uint8)
        found = fit(image.reshape(300, 300, 3))
        assert np.abs(np.array(found.stains) - stains).max() < 0.05
        assert np.allclose(found.most, np.percentile(amounts, 99, axis=0), rtol=0.05)

    @pytest.mark.parametrize("shade", [255, 230])
    def test_glass_is_refused(self, shade: int) -> None:
        """And told apart from a broken file."""
        with pytest.raises(RequestError, match="no tissue"):
            fit(np.full((64, 64, 3), shade, np.uint8))

    def test_one_pixel_of_tissue_is_too_little(self) -> None:
        """Nothing varies."""
        image = np.full((64, 64, 3), 255, np.uint8)
        image[3, 4] = (120, 60, 130)
        with pytest.raises(RequestError, match="no tissue"):
            fit(image)
