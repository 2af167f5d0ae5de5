"""macenko: many patches at once give what the reference gives one by one, and what it gives up on."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from models.encoders.stain.macenko import Macenko  # noqa: E402 - imports torch
from models.imaging.stain import BETA, PUBLISHED, fit, optical_densities  # noqa: E402
from tests.reference import macenko as reference  # noqa: E402
from tests.services.slides import SlideOnDisk  # noqa: E402

_SIDE = 64
_TISSUE, _OTHER, _GLASS = (150, 90, 160), (200, 120, 170), (245, 244, 246)


@pytest.fixture(scope="module")
def normaliser() -> Macenko:
    """Bring patches to the published default."""
    return Macenko(PUBLISHED)


@pytest.fixture(scope="module")
def tissue(cmu_slide: SlideOnDisk) -> NDArray[np.uint8]:
    """Cut patches of which at least a hundredth is tissue, (B, 224, 224, 3), from all over the section."""
    places = [(x, y) for y in range(0, 2700, 300) for x in range(0, 1990, 300)]
    cut = np.stack([cmu_slide.patch(x, y, 224) for x, y in places])
    density = optical_densities()[cut].min(-1)
    return cut[(density >= BETA).mean((1, 2)) >= 0.01]


def _expected(patches: NDArray[np.uint8], target: reference.Target = reference.DEFAULT) -> tuple[Any, list[bool]]:
    done = [reference.normalise(patch, target) for patch in patches]
    return torch.stack([image for image, _ in done]), [stayed for _, stayed in done]


def _plain(colour: tuple[int, int, int], side: int = _SIDE) -> NDArray[np.uint8]:
    return np.full((side, side, 3), colour, np.uint8)


def _with(count: int, *colours: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return glass with a number of pixels of tissue, of colours in turn."""
    patch = _plain(_GLASS)
    for number in range(count):
        patch[number // _SIDE, number % _SIDE] = colours[number % len(colours)]
    return patch


Ways = Callable[[NDArray[np.uint8]], tuple[Any, list[bool]]]


@pytest.fixture(scope="module", params=["on a CPU", "as on an accelerator"])
def way(request: pytest.FixtureRequest, normaliser: Macenko) -> Ways:
    """Normalise by either way; what an accelerator does runs on a CPU as well."""

    def alone(patches: NDArray[np.uint8]) -> tuple[Any, list[bool]]:
        images, stayed = normaliser(torch.from_numpy(patches))
        return images, stayed.tolist()

    def together(patches: NDArray[np.uint8]) -> tuple[Any, list[bool]]:
        pixels = torch.from_numpy(patches)
        images, stayed = normaliser._together(pixels.flatten(1, 2).mT)
        return images.unflatten(-1, pixels.shape[1:3]), stayed.tolist()

    return alone if request.param == "on a CPU" else together


class TestNumbers:
    """Held against the reference."""

    def test_tissue_is_the_reference_s(self, normaliser: Macenko, tissue: NDArray[np.uint8]) -> None:
        """Within 1e-4 on real tissue, the covariance's rounding included."""
        images, stayed = normaliser(torch.from_numpy(tissue))
        expected, _ = _expected(tissue)
        assert images.dtype == torch.float32
        assert images.shape == (len(tissue), 3, 224, 224)
        assert not stayed.any()
        assert (images - expected).abs().max() < 1e-4

    def test_an_accelerator_is_within_the_reference_s_rounding(self, way: Ways, tissue: NDArray[np.uint8]) -> None:
        """What sums in double precision differs by no more than the reference in single does from itself in double."""
        images, _ = way(tissue)
        expected, _ = _expected(tissue)
        assert (images - expected).abs().max() < 1e-3
        assert (images - expected).abs().mean() < 5e-5

    def test_another_target(self, tissue: NDArray[np.uint8]) -> None:
        """Patches are brought to an image's stains as well, and differ from the default's."""
        target = fit(tissue[3])
        fitted = reference.Target(torch.tensor(target.stains), torch.tensor(target.most))
        images, _ = Macenko(target)(torch.from_numpy(tissue[:4]))
        assert (images - _expected(tissue[:4], fitted)[0]).abs().max() < 1e-4
        assert (images - _expected(tissue[:4])[0]).abs().max() > 0.05

    def test_is_not_rounded_and_cut_at_white_alone(self, way: Ways, tissue: NDArray[np.uint8]) -> None:
        """Values lie between those of bytes; the lightest are 1, and nothing is more."""
        images, _ = way(tissue)
        scaled = images * 255
        assert ((scaled - scaled.round()).abs() > 0.1).float().mean() > 0.5
        assert images.max() == 1
        assert images.min() >= 0

    @pytest.mark.parametrize("shape", [(1, 32, 48, 3), (2, 256, 256, 3), (3, 17, 5, 3)])
    def test_any_size(self, way: Ways, normaliser: Macenko, shape: tuple[int, ...]) -> None:
        """Oblong and odd ones keep their pixels where they are; on a CPU noise, too, is the reference's to 1e-4."""
        patches = np.random.default_rng(0).integers(40, 200, shape, np.uint8)
        expected, _ = _expected(patches)
        assert (normaliser(torch.from_numpy(patches))[0] - expected).abs().max() < 1e-4
        # Noise has no two directions to be sure of: how the covariance's sums are rounded turns them.
        assert (way(patches)[0] - expected).abs().max() < 5e-3

    def test_none(self, normaliser: Macenko) -> None:
        """No patches give no images."""
        images, stayed = normaliser(torch.empty((0, 32, 32, 3), dtype=torch.uint8))
        assert images.shape == (0, 3, 32, 32)
        assert stayed.shape == (0,)
        assert stayed.dtype == torch.bool


class TestFallbacks:
    """Where the reference gives up, and where it only just does not."""

    @pytest.mark.parametrize(
        "patch",
        [
            pytest.param(_plain((255, 255, 255)), id="white"),
            pytest.param(_plain(_GLASS), id="glass"),
            pytest.param(_plain((239, 239, 239)), id="no density at all"),
            pytest.param(_with(1, _TISSUE), id="one pixel of tissue"),
        ],
    )
    def test_falls_back(self, way: Ways, patch: NDArray[np.uint8]) -> None:
        """The patch is given as it was, and marked, as by the reference."""
        images, stayed = way(patch[None])
        expected, given_up = _expected(patch[None])
        assert stayed == given_up == [True]
        assert torch.equal(images, expected)
        assert torch.equal(images[0], torch.from_numpy(patch).permute(2, 0, 1) / 255)

    @pytest.mark.parametrize(
        "patch",
        [
            pytest.param(_with(2, _TISSUE, _OTHER), id="two pixels of tissue"),
            pytest.param(_with(60, _TISSUE, _OTHER, (90, 60, 120)), id="sixty pixels of three colours"),
            pytest.param(_plain((0, 0, 0)), id="black"),
            pytest.param(_plain(_TISSUE), id="one colour"),
            pytest.param(_with(2000, _TISSUE), id="one colour, and glass"),
            pytest.param(_with(2000, (206, 206, 206)), id="just not glass"),
        ],
    )
    def test_does_not_fall_back(self, way: Ways, patch: NDArray[np.uint8]) -> None:
        """A little tissue, or tissue that does not vary, gives numbers, as by the reference."""
        images, stayed = way(patch[None])
        assert stayed == _expected(patch[None])[1]
        assert torch.isfinite(images).all()

    def test_one_colour_becomes_the_target_s(self, way: Ways) -> None:
        """Both stains are one then, and there is as much as the target has: as by LAPACK's least squares."""
        patches = _plain(_TISSUE)[None]
        assert (way(patches)[0] - _expected(patches)[0]).abs().max() < 1e-4

    def test_neighbours_are_not_failed(self, way: Ways, tissue: NDArray[np.uint8]) -> None:
        """Patches beside one that falls back are what they are alone."""
        glass = _plain(_GLASS, 224)
        images, stayed = way(np.stack([tissue[0], glass, tissue[1], glass]))
        assert stayed == [False, True, False, True]
        assert torch.equal(images[[0, 2]], way(tissue[:2])[0])


class TestIndependence:
    """A patch is what it is, whatever lies beside it."""

    @settings(max_examples=15)
    @given(order=st.permutations(range(6)), size=st.integers(1, 6))
    def test_order_size_and_neighbours_change_no_bit(
        self, normaliser: Macenko, tissue: NDArray[np.uint8], order: list[int], size: int
    ) -> None:
        """Any of them, anywhere in a batch of any size, gives the bytes that it gives alone."""
        patches = np.stack([*tissue[:5], _plain(_GLASS, 224)])
        alone = torch.cat([normaliser(torch.from_numpy(patch[None]))[0] for patch in patches])
        images, stayed = normaliser(torch.from_numpy(patches[order[:size]]))
        assert images.numpy().tobytes() == alone[order[:size]].numpy().tobytes()
        assert stayed.tolist() == [number == 5 for number in order[:size]]

    def test_threads_of_the_program_are_left_alone(self, tissue: NDArray[np.uint8]) -> None:
        """PyTorch computes on as many as before."""
        before = torch.get_num_threads()
        Macenko(PUBLISHED)(torch.from_numpy(tissue[:3]))
        assert torch.get_num_threads() == before
        with ThreadPoolExecutor(1) as another:
            assert another.submit(torch.get_num_threads).result() == before

    def test_pixels_are_not_touched(self, normaliser: Macenko, tissue: NDArray[np.uint8]) -> None:
        """What was given is as it was."""
        given_ = tissue[:3].copy()
        normaliser(torch.from_numpy(given_))
        assert np.array_equal(given_, tissue[:3])
