"""path-foundation: the numbers of the model card's snippet, in any batch, by any way of computing."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.domain.codes import ErrorCode
from models.domain.errors import RequestError, WeightsInvalid
from models.domain.patch import PatchGrid
from models.encoders import registry
from models.encoders.path_foundation import MODEL
from models.encoders.protocol import Encoder
from models.encoders.suitability import check_patches
from tests.reference.path_foundation import embed
from tests.services.saved_model import Published, write_saved_model

pytest.importorskip("tensorflow")
_ROOT = Path(__file__).parents[4]
_COUNT = 70
_WAYS: tuple[Mapping[str, str], ...] = (
    {},
    {"deterministic": "yes"},
    {"xla": "yes"},
    {"xla": "yes", "deterministic": "yes"},
)


@pytest.fixture(scope="module")
def patches() -> NDArray[np.uint8]:
    """Draw patches: noise, plain colours, and what lies between."""
    rng = np.random.default_rng(7)
    noise = rng.integers(0, 256, (_COUNT, 224, 224, 3))
    plain = rng.integers(0, 256, (_COUNT, 1, 1, 3))
    share = rng.random((_COUNT, 1, 1, 1))
    return np.asarray(share * noise + (1 - share) * plain, np.uint8)


@pytest.fixture(scope="module")
def expected(saved_model_of_this_session: Path, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Embed them as the model card does."""
    return embed(saved_model_of_this_session, patches)


@pytest.fixture(scope="module", params=_WAYS, ids=lambda way: "+".join(way) or "plain")
def encoder(request: pytest.FixtureRequest, saved_model_of_this_session: Path) -> Encoder:
    """Load the made weights, to be computed in each way there is."""
    return registry.load(MODEL, saved_model_of_this_session, MODEL.settle(request.param), "cpu")


@pytest.mark.parametrize("count", [1, 3, 16, 64, 65, 70])
def test_numbers_are_the_snippets(
    encoder: Encoder, patches: NDArray[np.uint8], expected: NDArray[np.float32], count: int
) -> None:
    """Whatever the batch and the way of computing: within 1e-5 of one image at a time, float32, one row a patch."""
    found = encoder.encode(patches[-count:]).matrix
    assert (found.dtype, found.shape) == (np.float32, (count, 384))
    assert np.abs(found - expected[-count:]).max() <= 1e-5
    assert expected.std(axis=0).min() > 1e-3, "the network looks at the pixels"


@given(chosen=st.lists(st.integers(0, _COUNT - 1), min_size=1, max_size=40))
@settings(max_examples=15)
def test_neighbours_do_not_matter(deterministic: Encoder, patches: NDArray[np.uint8], chosen: list[int]) -> None:
    """Computed deterministically, a patch has the same bytes in any batch, at any place, beside any others."""
    whole = deterministic.encode(patches).matrix
    assert deterministic.encode(patches[chosen]).matrix.tobytes() == whole[chosen].tobytes()


@pytest.fixture(scope="module")
def deterministic(saved_model_of_this_session: Path) -> Encoder:
    """Load the made weights, to be computed deterministically."""
    return registry.load(MODEL, saved_model_of_this_session, {"deterministic": "yes"}, "cpu")


@pytest.mark.parametrize(("side", "how"), [(448, cv2.INTER_AREA), (300, cv2.INTER_AREA), (112, cv2.INTER_CUBIC)])
def test_other_sizes_are_resized_as_the_server_does(
    deterministic: Encoder, saved_model_of_this_session: Path, side: int, how: int
) -> None:
    """Patches of another size are averaged by area, or enlarged by cubics, before they are divided."""
    given = np.random.default_rng(side).integers(0, 256, (2, side, side, 3), np.uint8)
    fitted = np.stack([cv2.resize(patch, (224, 224), interpolation=how) for patch in given])
    expected = embed(saved_model_of_this_session, fitted)
    assert np.abs(deterministic.encode(given).matrix - expected).max() <= 1e-5


@pytest.mark.parametrize(
    ("patch_px", "spacing_um", "noted"),
    [
        (224, 0.5, ""),
        (224, 1.0, ""),
        (224, 2.1, ""),
        (224, 0.25, "0.5 or 1 or 2 um/px, not 0.25"),
        (224, None, "unknown"),
    ],
)
def test_other_spacings_are_noted(patch_px: int, spacing_um: float | None, noted: str) -> None:
    """The three spacings it was trained at pass; another, or none, is said in the result, and is no error."""
    grid = _grid(patch_px, spacing_um)
    notes = check_patches(MODEL.spec, grid, ())
    assert len(notes) == bool(noted)
    assert noted in "".join(notes)


def test_other_sizes_have_to_be_asked_for() -> None:
    """Patches of 256 px are refused, unless somebody says that they are to be taken."""
    with pytest.raises(RequestError, match="224 px, not 256"):
        check_patches(MODEL.spec, _grid(256, 0.5), ())
    [note] = check_patches(MODEL.spec, _grid(256, 0.5), (("unsuited", "allow"),))
    assert "224 px, not 256" in note


def _grid(patch_px: int, spacing_um: float | None) -> PatchGrid:
    both = None if spacing_um is None else (spacing_um, spacing_um)
    return PatchGrid(
        level=0,
        patch_px=patch_px,
        spacing_um=both,
        boxes=np.array([[0, 0, patch_px, patch_px]], np.int32),
        rows=np.array([0]),
    )


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"compile": "yes"}, "has no option compile"),
        ({"xla": "maybe"}, "xla: 'maybe' is none of yes, no"),
        ({"precision": "bf16"}, "precision: 'bf16' is none of fp32"),
    ],
)
def test_options_are_checked(options: Mapping[str, str], named: str) -> None:
    """An option it does not have, and a value that an option does not take, are named before TensorFlow is there."""
    for use in (MODEL.settle, lambda given: MODEL.load(None, given)):
        with pytest.raises(RequestError, match=named):
            use(options)


def test_no_weights_are_refused() -> None:
    """Without weights there is nothing to load; where they come from is said."""
    with pytest.raises(WeightsInvalid, match="needs weights"):
        MODEL.load(None, {})
    with pytest.raises(WeightsInvalid, match=r"slidewire encoders.* path-foundation"):
        MODEL.weights(None)


def test_nan_is_found_when_it_is_loaded(tmp_path: Path) -> None:
    """Weights that give NaN cost no patch."""
    folder = write_saved_model(tmp_path / "nan", Published(nan=True))
    with pytest.raises(WeightsInvalid, match="NaN"):
        registry.load(MODEL, folder, {}, "cpu")


def test_a_dimension_that_is_not_declared_is_found_when_it_is_loaded(tmp_path: Path) -> None:
    """A signature may leave its output's length open; then the first vector tells."""
    folder = write_saved_model(tmp_path / "other", Published(outputs={"output_0": 512}, vague=True))
    with pytest.raises(WeightsInvalid, match="512"):
        registry.load(MODEL, folder, {}, "cpu")


def test_tensorflow_that_is_not_installed_is_named() -> None:
    """Without TensorFlow, the message says which extra to install."""
    program = """
import sys
sys.modules["tensorflow"] = None
from pathlib import Path
from models.domain.errors import ExtraMissing
from models.encoders.registry import find
try:
    find("path-foundation").load(Path("weights"), {})
except ExtraMissing as exc:
    print(exc.code, exc)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=_ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(ErrorCode.EXTRA_MISSING)
    assert "slidewire[tensorflow]" in done.stdout
