"""What every registered encoder keeps to; a new one is tested by being registered."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.domain.errors import ExtraMissing, RequestError
from models.encoders.protocol import Encoder, Model
from models.encoders.registry import find, names, weights_digest

_ROOT = Path(__file__).parents[2]


@pytest.fixture(params=names())
def model(request: pytest.FixtureRequest) -> Model:
    """Take each registered encoder in turn."""
    return find(request.param)


@pytest.fixture
def encoder(model: Model) -> Encoder:
    """Load it with its own weights, or skip if its runtime is not installed."""
    try:
        return model.load(model.weights(None), {})
    except ExtraMissing as exc:
        pytest.skip(str(exc))


def _patches(count: int, side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count * 1000 + side).integers(0, 256, (count, side, side, 3), np.uint8)


class TestSpec:
    """What is declared, before anything is loaded."""

    def test_unknown_option_is_refused(self, model: Model) -> None:
        """An option nobody knows is no matter of luck."""
        with pytest.raises((RequestError, ExtraMissing), match=r"no_such_option|extra"):
            model.load(model.weights(None), {"no_such_option": "1"})

    def test_is_read_without_a_runtime(self, model: Model) -> None:
        """Listing encoders imports neither PyTorch nor TensorFlow."""
        program = (
            "import sys, json\n"
            "from models.encoders.registry import find\n"
            f"spec = find({model.spec.name!r}).spec\n"
            "print(json.dumps([spec.preprocessing, sorted({'torch', 'tensorflow', 'jax'} & set(sys.modules))]))"
        )
        done = subprocess.run([sys.executable, "-c", program], cwd=_ROOT, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == [model.spec.preprocessing, []]

    def test_is_complete(self, model: Model) -> None:
        """Names, numbers and the licence are there, and the name is the one it is registered under."""
        spec = model.spec
        assert spec.name in names()
        assert find(spec.name) is model
        assert spec.dimension > 0
        assert spec.input_px > 0
        assert all(spacing > 0 for spacing in spec.spacings_um)
        assert all(0 <= mean <= 1 for mean in spec.mean)
        assert all(std > 0 for std in spec.std)
        assert spec.preprocessing_version > 0
        assert all((spec.family, spec.licence, spec.source, spec.revision))
        assert re.fullmatch("([0-9a-f]{64})?", spec.weights_sha256)

    def test_weights_are_the_declared_ones(self, model: Model) -> None:
        """The weights it finds by itself have the digest it declares."""
        try:
            path = model.weights(None)
        except ExtraMissing as exc:
            pytest.skip(str(exc))
        assert weights_digest(path) == model.spec.weights_sha256


class TestNumbers:
    """What comes out."""

    def test_shape_and_type(self, model: Model, encoder: Encoder) -> None:
        """One float32 row of the declared length a patch, all of it finite."""
        for count in (1, 3):
            found = encoder.encode(_patches(count, model.spec.input_px)).matrix
            assert found.shape == (count, model.spec.dimension)
            assert found.dtype == np.float32
            assert np.isfinite(found).all()

    def test_the_same_pixels_give_the_same_bytes(self, model: Model, encoder: Encoder) -> None:
        """Encoding again changes nothing, neither the numbers nor the pixels that were given."""
        pixels = _patches(3, model.spec.input_px)
        given = pixels.copy()
        assert encoder.encode(pixels).matrix.tobytes() == encoder.encode(pixels).matrix.tobytes()
        assert np.array_equal(pixels, given)

    def test_a_result_is_not_overwritten_by_the_next(self, model: Model, encoder: Encoder) -> None:
        """What was returned belongs to the caller."""
        first = encoder.encode(_patches(2, model.spec.input_px)).matrix
        kept = first.copy()
        encoder.encode(255 - _patches(2, model.spec.input_px))
        assert np.array_equal(first, kept)

    def test_neighbours_do_not_matter(self, model: Model, encoder: Encoder) -> None:
        """A patch has the same embedding alone, in a batch, and at another place in it, within rounding."""
        pixels = _patches(5, model.spec.input_px)
        whole = encoder.encode(pixels).matrix
        alone = np.concatenate([encoder.encode(pixels[number : number + 1]).matrix for number in range(5)])
        turned = encoder.encode(np.ascontiguousarray(pixels[::-1])).matrix[::-1]
        scale = np.abs(whole).max()
        assert np.abs(whole - alone).max() <= 1e-4 * scale
        assert np.abs(whole - turned).max() <= 1e-4 * scale

    def test_different_patches_differ(self, model: Model, encoder: Encoder) -> None:
        """It looks at the pixels."""
        found = encoder.encode(_patches(2, model.spec.input_px)).matrix
        assert not np.allclose(found[0], found[1])

    @pytest.mark.parametrize("side", [32, 225, 512])
    def test_other_patch_sizes(self, model: Model, encoder: Encoder, side: int) -> None:
        """Patches of another size are brought to the input's; a plain colour stays what it is."""
        assert encoder.encode(_patches(2, side)).matrix.shape == (2, model.spec.dimension)
        plain = [np.full((1, size, size, 3), (180, 90, 150), np.uint8) for size in (side, model.spec.input_px)]
        one, other = (encoder.encode(pixels).matrix for pixels in plain)
        assert np.abs(one - other).max() <= 1e-3 * max(1.0, float(np.abs(other).max()))

    @pytest.mark.parametrize("shade", [0, 255])
    def test_black_and_white_are_finite(self, model: Model, encoder: Encoder, shade: int) -> None:
        """The ends of the scale, which padding and glass are made of, give numbers."""
        pixels = np.full((2, model.spec.input_px, model.spec.input_px, 3), shade, np.uint8)
        assert np.isfinite(encoder.encode(pixels).matrix).all()
