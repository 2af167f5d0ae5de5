"""What every registered encoder keeps to; a new one is tested by being registered."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray

from models.domain.errors import ExtraMissing, RequestError, WeightsInvalid
from models.domain.patch import Rows
from models.encoders import registry
from models.encoders.protocol import Encoder, Model
from models.encoders.registry import find, names
from models.encoders.weights.digest import weights_digest
from tests.services import made_weights

_ROOT = Path(__file__).parents[2]

_NEEDS: Final = {"timm": ("timm", "torchvision")}
"""What an extra brings that may be missing where these tests run; all others are installed."""


def _runs(name: str) -> bool:
    return all(find_spec(package) for package in _NEEDS.get(find(name).spec.extra, ()))


_RUN = [name for name in names() if _runs(name) and not made_weights.takes_long(find(name))]
_LARGE = [name for name in names() if _runs(name) and made_weights.takes_long(find(name))]


@dataclass(frozen=True)
class Subject:
    """A model, what it is loaded with, and what came of it."""

    model: Model
    weights: Path | None
    encoder: Encoder

    def load(self, given: Path | None, **options: str) -> Encoder:
        """Load it once more as a worker does, with given weights, and with options besides those it needs."""
        weights = self.model.weights(given) if given else None
        return registry.load(self.model, weights, _settled(self.model, options), "cpu")

    def rows(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed patches."""
        return self.encoder.encode(pixels).matrix


def _settled(model: Model, options: dict[str, str]) -> dict[str, str]:
    return dict(model.settle({**made_weights.OPTIONS.get(model.spec.name, {}), **options}))


def _has(model: Model, option: str, value: str) -> bool:
    try:
        return bool(_settled(model, {option: value}))
    except RequestError:
        return False


def _own_weights(model: Model) -> tuple[Path | None, RequestError | None]:
    try:
        return model.weights(None), None
    except (ExtraMissing, WeightsInvalid) as exc:
        return None, exc


@pytest.fixture(params=names())
def model(request: pytest.FixtureRequest) -> Model:
    """Take each registered encoder in turn."""
    return find(request.param)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the folder of the weights that are made, once for all tests."""
    folder = tmp_path_factory.mktemp("weights")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """Give a folder for spoilt weights, and remove it: pytest would keep it."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture(params=_RUN, scope="module")
def subject(request: pytest.FixtureRequest, made: Path) -> Subject:
    """Take each encoder that runs here in turn, loaded with its own weights or made ones."""
    model = find(request.param)
    weights = made_weights.weights_of(model, made)
    return Subject(model, weights, registry.load(model, weights, _settled(model, {}), "cpu"))


def _patches(count: int, side: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count * 1000 + side).integers(0, 256, (count, side, side, 3), np.uint8)


class TestSpec:
    """What is declared, before anything is loaded."""

    def test_unknown_option_is_refused(self, model: Model) -> None:
        """An option nobody knows is no matter of luck."""
        with pytest.raises(RequestError, match="no_such_option"):
            _settled(model, {"no_such_option": "1"})

    def test_settled_options_stay_as_they_are(self, model: Model) -> None:
        """What is in the ledger means the same on each worker."""
        settled = _settled(model, {"unsuited": "allow"})
        assert settled["unsuited"] == "allow"
        assert dict(model.settle(settled)) == settled

    def test_is_documented(self, model: Model) -> None:
        """docs/encoders.md has a row for it, with its numbers, its sizes, and whether consent is asked."""
        spec = model.spec
        rows = (_ROOT / "docs" / "encoders.md").read_text(encoding="utf-8").splitlines()
        [row] = [row for row in rows if row.startswith(f"| `{spec.name}` | {spec.dimension} |")]
        *_, patches, licence, _ = (cell.strip() for cell in row.split("|"))
        assert all(str(size) in patches for size in spec.patches_px)
        assert licence == spec.licence.name + " *" * spec.licence.ask

    def test_is_complete(self, model: Model) -> None:
        """Names, numbers and the licence are there, and the name is the one it is registered under."""
        spec = model.spec
        assert spec.name in names()
        assert find(spec.name) is model
        assert spec.dimension > 0
        assert spec.input_px > 0
        assert all(spacing > 0 for spacing in spec.spacings_um)
        assert all(side > 0 for side in spec.patches_px)
        assert all(0 <= mean <= 1 for mean in spec.mean)
        assert all(std > 0 for std in spec.std)
        assert spec.precisions
        assert spec.preprocessing_version > 0
        assert all((spec.family, spec.licence.name, spec.source, spec.revision))
        assert re.fullmatch("([0-9a-f]{64})?", spec.weights_sha256)

    def test_says_how_to_agree_and_where_to_get_it(self, model: Model) -> None:
        """A licence that asks can be read somewhere, and weights to be fetched lie at a place that has a name."""
        spec = model.spec
        assert not spec.licence.ask or spec.licence.url.startswith("https://")
        if spec.hub is not None:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+", spec.hub.repository)
            assert spec.hub.files

    def test_weights_are_the_declared_ones_or_the_way_to_them(self, model: Model) -> None:
        """The weights it finds by itself have the digest it declares; if it has none, it says how to get them."""
        path, refusal = _own_weights(model)
        if refusal is None:
            assert weights_digest(path) == model.spec.weights_sha256
        elif isinstance(refusal, ExtraMissing):
            assert model.spec.extra in refusal.message
        else:
            way = f"slidewire encoders fetch {model.spec.name}" if model.spec.hub else model.spec.source
            assert way in refusal.message

    def test_a_missing_runtime_is_said(self, model: Model, tmp_path: Path) -> None:
        """Where a part of Slidewire is not installed, the message names it; elsewhere nothing is said of it."""
        path = tmp_path / "weights.pth"
        path.write_bytes(b"not weights")
        with pytest.raises(RequestError) as caught:
            registry.load(model, model.weights(path), _settled(model, {}), "cpu")
        assert isinstance(caught.value, WeightsInvalid if _runs(model.spec.name) else ExtraMissing)
        assert _runs(model.spec.name) or model.spec.extra in caught.value.message


def test_specs_are_read_without_a_runtime() -> None:
    """Listing encoders imports neither PyTorch nor TensorFlow, and says what loading them would."""
    program = (
        "import sys, json\n"
        "from models.encoders.registry import find, names\n"
        "said = {name: find(name).spec.preprocessing for name in names()}\n"
        "print(json.dumps([said, sorted({'torch', 'tensorflow', 'jax', 'timm', 'onnxruntime'} & set(sys.modules))]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=_ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [{name: find(name).spec.preprocessing for name in names()}, []]


class TestWeights:
    """What is refused before any patch is spent."""

    def test_torn(self, subject: Subject, scratch: Path) -> None:
        """A file that ends halfway is not half a model."""
        if subject.weights is None:
            return
        with pytest.raises(WeightsInvalid):
            subject.load(made_weights.torn(subject.weights, scratch))

    @pytest.mark.parametrize("content", [b"", b"not weights", bytes(range(256)) * 64])
    def test_no_weights_at_all(self, subject: Subject, tmp_path: Path, content: bytes) -> None:
        """Bytes of anything else are refused, also where there is nothing to load."""
        path = tmp_path / "anything.pth"
        path.write_bytes(content)
        with pytest.raises(WeightsInvalid):
            subject.load(path)

    def test_of_another_model(self, subject: Subject) -> None:
        """Weights that belong to somebody else are told by what is in them."""
        other = find("efficientnet-lite0")
        if subject.model is other or subject.weights is None:
            return
        with pytest.raises(WeightsInvalid):
            subject.load(other.weights(None))

    def test_not_a_number(self, subject: Subject, scratch: Path) -> None:
        """Weights that give NaN are found out on the first patch of noise."""
        if subject.weights is None:
            return
        poisoned = made_weights.poisoned(subject.weights, scratch)
        with pytest.raises(WeightsInvalid, match="NaN"):
            subject.load(poisoned)


class TestNumbers:
    """What comes out."""

    def test_shape_and_type(self, subject: Subject) -> None:
        """One float32 row of the declared length a patch, all of it finite; marks if there is a stain to normalise."""
        spec = subject.model.spec
        for count in (1, 2):
            found = subject.encoder.encode(_patches(count, spec.input_px))
            assert found.matrix.shape == (count, spec.dimension)
            assert found.matrix.dtype == np.float32
            assert np.isfinite(found.matrix).all()
            assert (found.fallbacks is not None) == bool(spec.stain)
            if found.fallbacks is not None:
                assert found.fallbacks.shape == (count,)
                assert found.fallbacks.dtype == np.bool_

    def test_the_same_pixels_give_the_same_bytes(self, subject: Subject) -> None:
        """Encoding again changes nothing, neither the numbers nor the pixels that were given."""
        pixels = _patches(2, subject.model.spec.input_px)
        given = pixels.copy()
        assert subject.rows(pixels).tobytes() == subject.rows(pixels).tobytes()
        assert np.array_equal(pixels, given)

    def test_a_result_is_not_overwritten_by_the_next(self, subject: Subject) -> None:
        """What was returned belongs to the caller."""
        pixels = _patches(1, subject.model.spec.input_px)
        first = subject.rows(pixels)
        kept = first.copy()
        subject.rows(255 - pixels)
        assert np.array_equal(first, kept)

    def test_neighbours_do_not_matter(self, subject: Subject) -> None:
        """A patch has the same embedding alone, in a batch, and at another place in it, within rounding."""
        pixels = _patches(3, subject.model.spec.input_px)
        whole, alone, turned = _three_ways(subject.encoder, pixels)
        scale = np.abs(whole.matrix).max()
        assert np.abs(whole.matrix - alone.matrix).max() <= 1e-4 * scale
        assert np.abs(whole.matrix - turned.matrix).max() <= 1e-4 * scale
        assert _marks(whole) == _marks(alone) == _marks(turned)

    def test_neighbours_do_not_matter_to_the_last_bit(self, subject: Subject) -> None:
        """In deterministic mode, or without a network, batch, order and neighbours change no byte."""
        networked = _has(subject.model, "deterministic", "yes")
        encoder = subject.load(subject.weights, deterministic="yes") if networked else subject.encoder
        whole, alone, turned = _three_ways(encoder, _patches(2, subject.model.spec.input_px))
        assert whole.matrix.tobytes() == alone.matrix.tobytes() == turned.matrix.tobytes()
        assert _marks(whole) == _marks(alone) == _marks(turned)

    def test_different_patches_differ(self, subject: Subject) -> None:
        """It looks at the pixels."""
        found = subject.rows(_patches(2, subject.model.spec.input_px))
        assert not np.allclose(found[0], found[1])

    @pytest.mark.parametrize("side", [32, 225, 512])
    def test_other_patch_sizes(self, subject: Subject, side: int) -> None:
        """Patches of another size are brought to the input's; a plain colour stays what it is."""
        spec = subject.model.spec
        plain = [np.full((1, size, size, 3), (180, 90, 150), np.uint8) for size in (side, spec.input_px)]
        one, other = (subject.rows(pixels) for pixels in plain)
        assert one.shape == (1, spec.dimension)
        assert np.abs(one - other).max() <= 1e-3 * max(1.0, float(np.abs(other).max()))

    def test_black_and_white_are_finite(self, subject: Subject) -> None:
        """The ends of the scale, which padding and glass are made of, give numbers."""
        side = subject.model.spec.input_px
        pixels = np.stack([np.full((side, side, 3), shade, np.uint8) for shade in (0, 255)])
        assert np.isfinite(subject.rows(pixels)).all()


def _three_ways(encoder: Encoder, pixels: NDArray[np.uint8]) -> tuple[Rows, Rows, Rows]:
    """Embed patches in one batch, one by one, and in the opposite order; return the rows in the same order."""
    order = np.arange(len(pixels))
    alone = Rows.join([encoder.encode(pixels[number : number + 1]) for number in order])
    turned = encoder.encode(np.ascontiguousarray(pixels[::-1]))
    return encoder.encode(pixels), alone, turned[order[::-1]]


def _marks(rows: Rows) -> list[bool] | None:
    return None if rows.fallbacks is None else list(rows.fallbacks)


@pytest.mark.faults
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", _LARGE)
def test_the_true_size(name: str, made: Path, scratch: Path) -> None:
    """A network of up to a billion weights: all keys have a place, its numbers are whole and keep to the last bit."""
    model = find(name)
    weights = made_weights.weights_of(model, made)
    assert weights is not None
    encoder = registry.load(model, weights, _settled(model, {"deterministic": "yes"}), "cpu")
    pixels = _patches(2, model.spec.patch_px)
    found = encoder.encode(pixels).matrix
    assert (found.shape, found.dtype) == ((2, model.spec.dimension), np.float32)
    assert np.isfinite(found).all()
    assert not np.allclose(found[0], found[1])
    assert encoder.encode(pixels[1:]).matrix.tobytes() == found[1:].tobytes()
    del encoder  # two of them are more than a small machine holds
    with pytest.raises(WeightsInvalid):
        model.load(made_weights.torn(weights, scratch), _settled(model, {}), "cpu")
    made_weights.forget(model, made)
