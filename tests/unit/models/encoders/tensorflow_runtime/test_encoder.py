"""The TensorFlow runtime: devices, memory that runs out, errors that are ours, and beside PyTorch in one process."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.domain.errors import DeviceLost, DeviceMemory, SettingsInvalid, SlidewireError, WeightsInvalid
from models.encoders.path_foundation import MODEL
from models.encoders.tensorflow_runtime.encoder import TensorflowEncoder, _translated, pick_device

tf = pytest.importorskip("tensorflow")
_ROOT = Path(__file__).parents[4]


class _Network:
    """The mean of an image, 384 times; it has room for some images only."""

    def __init__(self, room: int = 1000, error: type[Exception] | None = None) -> None:
        self.sizes: list[int] = []
        self._room = room
        self._error = error or tf.errors.ResourceExhaustedError

    def __call__(self, images: Any) -> Any:
        self.sizes.append(len(images))
        if len(images) > self._room:
            raise self._error(None, None, "OOM when allocating tensor")
        return tf.repeat(tf.reduce_mean(images, (1, 2, 3))[:, None], 384, axis=1)


def _pixels(count: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    return np.random.default_rng(count).integers(0, 256, (count, 224, 224, 3), np.uint8)


def test_memory_that_runs_out_halves_the_batch() -> None:
    """What does not fit is tried with half as many images, and the smaller number is kept; no row is lost."""
    network, pixels = _Network(room=20), _pixels(70)
    encoder = TensorflowEncoder(MODEL.spec, network, "/CPU:0", steady=None, padded=False)
    found = encoder.encode(pixels).matrix
    assert network.sizes == [64, 32, 16, 16, 16, 16, 6]
    assert np.allclose(found, pixels.mean(axis=(1, 2, 3))[:, None] / 255, atol=1e-5)
    assert encoder.encode(pixels).matrix.tobytes() == found.tobytes()
    assert network.sizes[7:] == [16, 16, 16, 16, 6]


@pytest.mark.parametrize(("steady", "tried"), [(None, [3, 3, 3, 3, 3, 2, 1]), (16, [16])])
def test_memory_that_holds_not_even_one(steady: int | None, tried: list[int]) -> None:
    """One image that does not fit is the end; so are as many as must be computed at a time."""
    network = _Network(room=0)
    encoder = TensorflowEncoder(MODEL.spec, network, "/CPU:0", steady=steady, padded=False)
    with pytest.raises(DeviceMemory, match="CPU:0"):
        encoder.encode(_pixels(3))
    assert network.sizes == tried


@pytest.mark.parametrize(
    ("steady", "padded", "sizes"), [(16, False, [16] * 3), (None, True, [64]), (None, False, [33])]
)
def test_batches_are_filled_up(steady: int | None, *, padded: bool, sizes: list[int]) -> None:
    """Where the number of images matters it is always the same, and what fills it up is not given back."""
    network, pixels = _Network(), _pixels(33)
    encoder = TensorflowEncoder(MODEL.spec, network, "/CPU:0", steady=steady, padded=padded)
    found = encoder.encode(pixels).matrix
    assert network.sizes == sizes
    assert np.allclose(found, pixels.mean(axis=(1, 2, 3))[:, None] / 255, atol=1e-5)


@pytest.mark.parametrize(
    ("device", "error", "ours"),
    [
        ("/GPU:0", "InternalError", DeviceLost),
        ("/GPU:1", "UnknownError", DeviceLost),
        ("/GPU:0", "AbortedError", DeviceLost),
        ("/GPU:0", "UnavailableError", DeviceLost),
        ("/GPU:0", "InvalidArgumentError", WeightsInvalid),
        ("/CPU:0", "InternalError", WeightsInvalid),
        ("/CPU:0", "UnimplementedError", WeightsInvalid),
    ],
)
def test_errors_are_ours(device: str, error: str, ours: type[SlidewireError]) -> None:
    """A GPU that fails ends the process; what TensorFlow cannot compute is the weights' or the options' fault."""
    with pytest.raises(ours, match=error) as caught, _translated(tf, MODEL.spec, device):
        raise getattr(tf.errors, error)(None, None, "secret details\nof many lines")
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("asked", "gpus", "device"),
    [
        ("auto", 0, "/CPU:0"),
        ("auto", 2, "/GPU:0"),
        ("cpu", 2, "/CPU:0"),
        ("cuda", 1, "/GPU:0"),
        ("cuda:0", 1, "/GPU:0"),
        ("cuda:1", 2, "/GPU:1"),
    ],
)
def test_the_device_is_the_one_asked_for(asked: str, gpus: int, device: str) -> None:
    """A GPU if there is one, and the one with that number."""
    assert pick_device(asked, gpus) == device


@pytest.mark.parametrize(("asked", "gpus"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1), ("cuda:7", 2)])
def test_a_device_that_is_not_there_is_named(asked: str, gpus: int) -> None:
    """No other one is taken in its place."""
    with pytest.raises(SettingsInvalid, match=rf"{asked} is not there: TensorFlow sees {gpus} GPU"):
        pick_device(asked, gpus)


def test_a_gpu_this_machine_has_not(saved_model: Path) -> None:
    """Asked of the encoder, too."""
    with pytest.raises(SettingsInvalid, match="cuda:31"):
        MODEL.load(saved_model, {}, "cuda:31")


_BOTH = """
import sys
import numpy as np
from pathlib import Path
from models.encoders.registry import find, load
pixels = np.random.default_rng(1).integers(0, 256, (3, 224, 224, 3), np.uint8)
sums = []
for name in sys.argv[2:]:
    model = find(name)
    weights = model.weights(Path(sys.argv[1]) if name == "path-foundation" else None)
    sums.append((name, load(model, weights, {}, "cpu").encode(pixels).matrix.sum(dtype=float)))
print(sums)
"""


@pytest.mark.faults
def test_beside_pytorch_and_without_a_word(saved_model: Path) -> None:
    """Both runtimes work in one process, whichever comes first, and TensorFlow writes nothing to standard error."""
    orders = [("efficientnet-lite0", "path-foundation"), ("path-foundation", "efficientnet-lite0")]
    said = []
    for order in orders:
        command = [sys.executable, "-W", "error", "-c", _BOTH, str(saved_model), *order, order[0]]
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False, timeout=200)
        assert (done.returncode, done.stderr) == (0, "")
        said.append(dict(eval(done.stdout)))  # numbers and names of our own
        assert len(said[-1]) == 2
    assert said[0] == pytest.approx(said[1], rel=1e-6)
