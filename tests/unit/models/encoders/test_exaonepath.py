"""exaonepath: the reference's embeddings from a checkpoint in the published form, and clear words about all else."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from models.domain.errors import RequestError, WeightsInvalid  # noqa: E402
from models.encoders.exaonepath import MODEL  # noqa: E402
from models.encoders.protocol import Encoder  # noqa: E402
from models.imaging.stain import StainReference, fit  # noqa: E402
from tests.reference import exaonepath as reference  # noqa: E402
from tests.reference import make_golden  # noqa: E402
from tests.services.slides import SlideOnDisk  # noqa: E402

_ROOT = Path(__file__).parents[4]
_DEFAULT = {"stain_target": "published-default"}


@pytest.fixture(scope="module")
def state() -> reference.State:
    """Draw the golden checkpoint from its seed."""
    return reference.checkpoint(make_golden.SEED)


@pytest.fixture(scope="module")
def published(state: reference.State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write it as it is published."""
    path = tmp_path_factory.mktemp("exaonepath") / "EXAONEPath.ckpt"
    torch.save({"state_dict": state}, path)
    return path


@pytest.fixture(scope="module")
def encoder(published: Path) -> Encoder:
    """Load it."""
    return MODEL.load(published, _DEFAULT, "cpu")


@pytest.fixture(scope="module")
def golden() -> dict[str, NDArray[np.float32]]:
    """Read what the reference gave."""
    with np.load(make_golden.FILE) as file:
        return dict(file)


def _relative(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


class TestGolden:
    """Embeddings that were written down."""

    @pytest.mark.parametrize("side", make_golden.PLACES)
    def test_product(
        self, encoder: Encoder, golden: dict[str, NDArray[np.float32]], cmu_slide: SlideOnDisk, side: int
    ) -> None:
        """End to end within 1e-4; and the patch of glass is marked."""
        rows = encoder.encode(make_golden.patches(cmu_slide.pixels, side))
        assert _relative(rows.matrix, golden[f"rows_{side}"]) < 1e-4
        assert rows.fallbacks is not None
        assert rows.fallbacks.tolist() == golden[f"fallbacks_{side}"].tolist()

    def test_there_is_one_of_glass(self, golden: dict[str, NDArray[np.float32]]) -> None:
        """Of the golden patches one falls back."""
        assert golden["fallbacks_224"].tolist() == [False, False, True]

    def test_reference(
        self, state: reference.State, golden: dict[str, NDArray[np.float32]], cmu_slide: SlideOnDisk
    ) -> None:
        """The code that wrote them still gives them."""
        rows, fallbacks = make_golden.embed(state, make_golden.patches(cmu_slide.pixels, 224))
        assert _relative(rows, golden["rows_224"]) < 1e-4
        assert fallbacks.tolist() == golden["fallbacks_224"].tolist()


class TestNumbers:
    """Precision, and what a patch lies beside."""

    def test_network_alone_is_within_1e_5(self, published: Path, state: reference.State) -> None:
        """Without the stain step, of normalised images."""
        images = torch.randn((2, 3, 224, 224), generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            found = MODEL.network(published)(images).numpy()
            expected = reference.embed(state, images).numpy()
        assert _relative(found, expected) < 1e-5

    def test_bf16_points_the_same_way(self, published: Path, encoder: Encoder, cmu_slide: SlideOnDisk) -> None:
        """Within a cosine of 0.999."""
        patches = make_golden.patches(cmu_slide.pixels, 224)
        found = MODEL.load(published, {**_DEFAULT, "precision": "bf16"}, "cpu").encode(patches).matrix
        expected = encoder.encode(patches).matrix
        cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
        assert cosine.min() >= 0.999
        assert not np.array_equal(found, expected)

    def test_place_size_and_neighbours_change_no_bit(self, published: Path, cmu_slide: SlideOnDisk) -> None:
        """In deterministic mode."""
        fixed = MODEL.load(published, {**_DEFAULT, "deterministic": "yes"}, "cpu")
        patches = make_golden.patches(cmu_slide.pixels, 224)
        alone = np.concatenate([fixed.encode(patch[None]).matrix for patch in patches])
        for order in ([2, 1, 0], [0, 0]):
            assert fixed.encode(patches[order]).matrix.tobytes() == alone[order].tobytes()

    def test_target_changes_them(self, published: Path, encoder: Encoder, cmu_slide: SlideOnDisk) -> None:
        """Another target gives other embeddings, and the reference's for it; glass stays the same."""
        patches = make_golden.patches(cmu_slide.pixels, 224)
        target = fit(patches[1])
        found = MODEL.load(published, {"stain_target": target.text()}, "cpu").encode(patches)
        other = encoder.encode(patches)
        assert _relative(found.matrix[:2], other.matrix[:2]) > 0.01
        assert _relative(found.matrix[2:], other.matrix[2:]) < 1e-5


class TestTarget:
    """``stain_target``."""

    def test_there_has_to_be_one(self) -> None:
        """It says where it comes from, and how to do without."""
        with pytest.raises(RequestError, match=r"macenko_target.*stain_target=PATH.*stain_target=published-default"):
            MODEL.settle({})

    def test_an_image_becomes_its_numbers(self, tmp_path: Path, cmu_slide: SlideOnDisk) -> None:
        """They are those of its pixels; the path is in no result, and settled again nothing changes."""
        pixels = cmu_slide.patch(500, 900, 400)
        path = tmp_path / "target [1  2].png"
        Image.fromarray(pixels).save(path)
        settled = MODEL.settle({"stain_target": str(path)})
        path.unlink()
        assert StainReference.parse(settled["stain_target"]) == fit(pixels)
        assert MODEL.settle(settled) == settled

    def test_alpha_is_dropped(self, tmp_path: Path, cmu_slide: SlideOnDisk) -> None:
        """RGBA, as image programs write it, gives the numbers of its colours."""
        pixels = cmu_slide.patch(500, 900, 400)
        path = tmp_path / "target.png"
        Image.fromarray(pixels).convert("RGBA").save(path)
        assert StainReference.parse(MODEL.settle({"stain_target": str(path)})["stain_target"]) == fit(pixels)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (None, "cannot be read: No such file"),
            (b"", "no image"),
            (b"not a picture", "no image"),
            ("torn", "damaged"),
            ("glass", "no tissue"),
        ],
    )
    def test_what_is_no_target(self, tmp_path: Path, content: bytes | str | None, said: str) -> None:
        """Missing, empty, something else, cut off, or empty of tissue: said in words, naming the option."""
        path = tmp_path / "target.png"
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content:
            noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
            Image.fromarray(np.full_like(noise, 250) if content == "glass" else noise).save(path)
            path.write_bytes(path.read_bytes()[: 1000 if content == "torn" else None])
        with pytest.raises(RequestError, match=rf"stain_target.*{said}"):
            MODEL.settle({"stain_target": str(path)})

    def test_other_options_are_checked_too(self) -> None:
        """A precision that it has not is refused."""
        with pytest.raises(RequestError, match="precision"):
            MODEL.settle({**_DEFAULT, "precision": "fp8"})

    def test_needs_no_pytorch(self, tmp_path: Path, cmu_slide: SlideOnDisk) -> None:
        """A machine that only submits jobs need not have it."""
        path = tmp_path / "target.png"
        Image.fromarray(cmu_slide.patch(500, 900, 256)).save(path)
        program = (
            "import sys, json\n"
            "from models.encoders.exaonepath import MODEL\n"
            f"MODEL.settle({{'stain_target': {str(path)!r}}})\n"
            "print(json.dumps('torch' in sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", program], cwd=_ROOT, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) is False


class TestWeights:
    """The two published forms, and what is neither."""

    def test_hub_form(self, state: reference.State, published: Path, tmp_path: Path) -> None:
        """A folder with a plain state dict in safetensors, beside the target, holds the same network."""
        save_file(dict(state), tmp_path / "model.safetensors")
        (tmp_path / "macenko_target").mkdir()
        one, other = MODEL.network(tmp_path).state_dict(), MODEL.network(published).state_dict()
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)

    @pytest.mark.parametrize(
        ("gone", "added", "said"),
        [
            ("blocks.7.attn.qkv.bias", "", r"1 missing \(blocks.7.attn.qkv.bias\)"),
            ("", "head.weight", r"1 unexpected \(head.weight\)"),
            ("blocks.11.norm1.weight", "blocks.12.norm1.weight", r"missing \(blocks.11.*unexpected \(blocks.12"),
        ],
    )
    def test_keys_are_all_there_and_no_others(
        self, state: reference.State, tmp_path: Path, gone: str, added: str, said: str
    ) -> None:
        """Where the published code would go on without a word, the key is named."""
        changed = {key: value for key, value in state.items() if key != gone}
        if added:
            changed[added] = torch.zeros(768)
        path = tmp_path / "EXAONEPath.ckpt"
        torch.save({"state_dict": changed}, path)
        with pytest.raises(WeightsInvalid, match=said):
            MODEL.network(path)
