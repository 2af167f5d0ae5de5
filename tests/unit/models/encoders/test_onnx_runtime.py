"""ONNX files as encoders: equal to numpy, whatever the layout and the batch; what is no such network costs no patch."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models.domain.errors import (
    DeviceLost,
    DeviceMemory,
    ExtraMissing,
    RequestError,
    SettingsInvalid,
    SlidewireError,
    WeightsInvalid,
)
from models.encoders import onnx_runtime, registry
from models.encoders.onnx_runtime import OnnxEncoder, OnnxModel
from models.encoders.pixel_grid import MODEL
from tests.services.onnx_networks import DIMENSION, SIDE_PX, expected, matrix, network, write, write_apart

_SPEC = replace(MODEL.spec, name="colours", dimension=DIMENSION, input_px=SIDE_PX, extra="onnx")
_MODEL = OnnxModel(_SPEC)


def _pixels(count: int, side: int = SIDE_PX) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, side, side, 3), np.uint8)


@pytest.mark.parametrize("shape", [("N", 3, SIDE_PX, SIDE_PX), ("N", SIDE_PX, SIDE_PX, 3)])
def test_rows_stay_rows(tmp_path: Path, shape: tuple[int | str, ...]) -> None:
    """A network that looks at the upper two rows only is given these, in either layout."""
    pixels = _pixels(3)
    encoder = _MODEL.load(write(tmp_path / "mine.onnx", network(shape, rows=2)), {}, "cpu")
    assert encoder.encode(pixels).matrix == pytest.approx(expected(pixels[:, :2], matrix()), abs=1e-5)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "damaged"),
        (b"<html>login</html>", "damaged"),
        (bytes(1000), "damaged"),
        (network().SerializeToString()[:150], "damaged"),
        (network(shape=("N", 3, 9, 9)).SerializeToString(), "9 x 9"),
        (network(shape=("N", 4, SIDE_PX, 6), weights=np.ones((6, 5), np.float32)).SerializeToString(), "RGB"),
        (network(shape=("N", 3, SIDE_PX)).SerializeToString(), "no ONNX network|RGB"),
        (network(weights=np.ones((3, 4), np.float32)).SerializeToString(), r"\(batch, 5\)"),
        (network(kind=TensorProto.FLOAT16).SerializeToString(), "float16"),
    ],
)
def test_files_of_something_else_are_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """Damaged files, and networks of other images or another number of features, are named before any patch."""
    path = tmp_path / "mine.onnx"
    path.write_bytes(content)
    with pytest.raises(WeightsInvalid, match=said) as caught:
        _MODEL.load(path, {}, "cpu")
    assert str(tmp_path) not in str(caught.value)


def test_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """A missing file and no file at all are errors with a name."""
    with pytest.raises(WeightsInvalid, match=r"none\.onnx"):
        _MODEL.load(tmp_path / "none.onnx", {}, "cpu")
    with pytest.raises(WeightsInvalid, match="colours"):
        _MODEL.load(None, {}, "cpu")


def test_files_larger_than_onnx_can_be_are_not_read(tmp_path: Path) -> None:
    """Fifty gigabytes under the wrong name do not fill the memory."""
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(50 << 30)
    with pytest.raises(WeightsInvalid, match="2 GiB"):
        _MODEL.load(path, {}, "cpu")


def test_two_inputs_are_refused(tmp_path: Path) -> None:
    """A network that wants more than the images cannot be given it."""
    model = network()
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["N"]))
    with pytest.raises(WeightsInvalid, match="2 inputs"):
        _MODEL.load(write(tmp_path / "two.onnx", model), {}, "cpu")


def test_an_output_of_another_rank_is_refused(tmp_path: Path) -> None:
    """A feature map is no row of features."""
    node = helper.make_node("Relu", ["images"], ["map"])
    shape = ["N", 3, SIDE_PX, SIDE_PX]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("images", "map")]
    graph = helper.make_graph([node], "g", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    with pytest.raises(WeightsInvalid, match=r"\(batch, 5\)"):
        _MODEL.load(write(tmp_path / "map.onnx", model), {}, "cpu")


def test_operators_that_are_not_there_are_said(tmp_path: Path) -> None:
    """A network with operators of its own needs what nobody installed here."""
    model = network()
    model.graph.node[0].domain = "my.ops"
    model.opset_import.append(helper.make_opsetid("my.ops", 1))
    with pytest.raises(WeightsInvalid, match="operators"):
        _MODEL.load(write(tmp_path / "own.onnx", model), {}, "cpu")


@pytest.mark.parametrize("location", ["w.bin", "../w.bin", "/etc/hostname", "link.bin"])
def test_one_file_takes_its_weights_from_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    """The digest is that of the file that was given: what lies beside it, above it or anywhere has no part in it."""
    folder = tmp_path / "inner"
    folder.mkdir()
    for place in (folder / "w.bin", tmp_path / "w.bin"):
        place.write_bytes(matrix().tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    monkeypatch.chdir(folder)
    with pytest.raises(WeightsInvalid, match="folder"):
        _MODEL.load(write_apart(folder / "apart.onnx", location), {}, "cpu")


def test_a_folder_holds_network_and_weights(tmp_path: Path) -> None:
    """A network too large for one file is given as its folder, which is all that it is read from."""
    (tmp_path / "w.bin").write_bytes(matrix().tobytes())
    write_apart(tmp_path / "apart.onnx", "w.bin")
    pixels = _pixels(3)
    found = _MODEL.load(tmp_path, {}, "cpu").encode(pixels).matrix
    assert found == pytest.approx(expected(pixels, matrix()), abs=1e-5)
    write(tmp_path / "other.onnx", network())
    with pytest.raises(WeightsInvalid, match=r"2 files \*\.onnx"):
        _MODEL.load(tmp_path, {}, "cpu")


def test_a_folder_is_not_left(tmp_path: Path) -> None:
    """Weights outside the folder are not read, though the network names them."""
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(matrix().tobytes())
    write_apart(folder / "apart.onnx", "../w.bin")
    with pytest.raises(WeightsInvalid, match="elsewhere"):
        _MODEL.load(folder, {}, "cpu")


def test_nan_is_found_before_any_patch(tmp_path: Path) -> None:
    """Weights that are no numbers are refused when they are loaded."""
    path = write(tmp_path / "nan.onnx", network(weights=matrix() * np.float32("nan")))
    with pytest.raises(WeightsInvalid, match="NaN"):
        registry.load(_MODEL, path, {}, "cpu")


def test_a_network_that_fails_is_found_before_any_patch(tmp_path: Path) -> None:
    """One that says it takes any size, and does not, is refused when it is tried."""
    model = network(shape=("N", 3, "H", "W"))
    model.graph.node.insert(0, helper.make_node("Reshape", ["images", "fixed"], ["reshaped"]))
    model.graph.node[1].input[0] = "reshaped"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 3, 7, 7], np.int64), "fixed"))
    path = write(tmp_path / "sevens.onnx", model)
    with pytest.raises(WeightsInvalid, match="does not run"):
        registry.load(_MODEL, path, {}, "cpu")


@pytest.mark.parametrize(
    "shape",
    [
        ("N", 3, SIDE_PX, SIDE_PX),
        ("N", SIDE_PX, SIDE_PX, 3),
        (None, 3, "H", "W"),
        (4, 3, SIDE_PX, SIDE_PX),
        (4, SIDE_PX, SIDE_PX, 3),
        (1, 3, SIDE_PX, SIDE_PX),
    ],
)
@pytest.mark.parametrize("count", [1, 4, 6, 33])
@pytest.mark.parametrize("deterministic", ["yes", "no"])
def test_numbers_are_those_of_numpy(tmp_path: Path, shape: Any, count: int, deterministic: str) -> None:
    """Channels first or last, batch free or fixed: every patch has the numbers that numpy gives it, in its order."""
    path = write(tmp_path / "colours.onnx", network(shape=shape))
    pixels = _pixels(count)
    found = _MODEL.load(path, {"deterministic": deterministic}, "cpu").encode(pixels).matrix
    assert found.dtype == np.float32
    assert found.shape == (count, DIMENSION)
    assert found == pytest.approx(expected(pixels, matrix()), abs=1e-5)


def test_the_spec_is_what_prepares_the_patches(tmp_path: Path) -> None:
    """Mean, standard deviation and size are those of the spec, not of the file."""
    spec = replace(_SPEC, mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1.0))
    path = write(tmp_path / "colours.onnx", network())
    plain = np.full((2, 20, 20, 3), (255, 0, 51), np.uint8)
    colours = (np.array([1.0, 0.0, 0.2]) - 0.5) / np.array([0.25, 0.5, 1.0])
    found = OnnxModel(spec).load(path, {}, "cpu").encode(plain).matrix
    assert found == pytest.approx(np.tile(colours @ matrix(), (2, 1)), abs=1e-5)


@pytest.mark.parametrize("batch", ["N", 4])
def test_deterministic_bytes(tmp_path: Path, batch: Any) -> None:
    """Batch, order and neighbours do not change a bit in deterministic mode."""
    path = write(tmp_path / "colours.onnx", network(shape=(batch, 3, SIDE_PX, SIDE_PX)))
    encoder = _MODEL.load(path, {"deterministic": "yes"}, "cpu")
    pixels = _pixels(19)
    whole = encoder.encode(pixels).matrix
    order = np.random.default_rng(1).permutation(19)
    assert encoder.encode(pixels[order]).matrix.tobytes() == whole[order].tobytes()
    assert encoder.encode(pixels[7:8]).matrix.tobytes() == whole[7:8].tobytes()


def test_one_of_several_outputs_is_chosen(tmp_path: Path) -> None:
    """Which of several outputs is the embedding is the user's to say; the message lists them."""
    path = write(tmp_path / "two.onnx", network(outputs=("features", "logits")))
    pixels = _pixels(2)
    with pytest.raises(RequestError, match=r"features, logits"):
        _MODEL.load(path, {}, "cpu")
    with pytest.raises(RequestError, match=r"'pooled'.*features, logits"):
        _MODEL.load(path, {"output": "pooled"}, "cpu")
    found = _MODEL.load(path, {"output": "logits"}, "cpu").encode(pixels).matrix
    assert found == pytest.approx(-expected(pixels, matrix()), abs=1e-5)


@pytest.mark.parametrize("options", [{"output": ""}, {"precision": "bf16"}, {"deterministic": "maybe"}])
def test_options_are_checked_at_submission(options: dict[str, str]) -> None:
    """What it does not know or cannot use is refused without the file and without onnxruntime."""
    with pytest.raises(RequestError, match=next(iter(options))):
        _MODEL.settle(options)


def test_weights_are_the_given_ones_or_the_declared(tmp_path: Path) -> None:
    """A declared encoder has its file; --weights goes before it; without either it says so."""
    mine, other = write(tmp_path / "mine.onnx", network()), write(tmp_path / "other.onnx", network())
    declared = OnnxModel(_SPEC, mine)
    assert declared.weights(None) == mine
    assert declared.weights(other) == other
    with pytest.raises(WeightsInvalid, match="colours"):
        _MODEL.weights(None)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_onnxruntime_cannot_use_is_said(tmp_path: Path, device: str) -> None:
    """Who asks for a GPU does not get a processor in silence."""
    with pytest.raises(SettingsInvalid, match="device"):
        _MODEL.load(write(tmp_path / "colours.onnx", network()), {}, device)


def test_the_best_provider_comes_first() -> None:
    """A GPU is used where there is one, with its number; the processor does what the GPU cannot."""
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert onnx_runtime._providers(both, "auto") == [
        ("CUDAExecutionProvider", {"device_id": 0}),
        "CPUExecutionProvider",
    ]
    assert onnx_runtime._providers(both, "cuda:2")[0] == ("CUDAExecutionProvider", {"device_id": 2})
    assert onnx_runtime._providers(both, "cpu") == ["CPUExecutionProvider"]
    assert onnx_runtime._providers(both[1:], "auto") == ["CPUExecutionProvider"]


def test_the_runtime_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without onnxruntime the message says what to install."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExtraMissing, match=r"slidewire\[onnx\]"):
        _MODEL.load(write(tmp_path / "colours.onnx", network()), {}, "cpu")


class _Session:
    """Stands in for a device that holds so many patches; there is none here that runs out of memory."""

    def __init__(self, room: int, error: Exception) -> None:
        self.room, self.error = room, error
        self.sizes: list[int] = []

    def run(self, _outputs: list[str], given: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        (images,) = given.values()
        self.sizes.append(len(images))
        if len(images) > self.room:
            raise self.error
        return [images.mean(axis=(2, 3)) @ matrix()]


def _encoder(session: _Session, batch: int = 0, *, alone: bool = False) -> OnnxEncoder:
    port = onnx_runtime._Port("images", "features", batch, channels_first=True)
    return OnnxEncoder(_SPEC, session, port, alone=alone)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("Failed to allocate memory"), RuntimeError("CUDA error 2: out of memory")]
)
def test_fewer_patches_at_a_time_where_memory_is_short(error: Exception) -> None:
    """What does not fit is halved until it does, stays so, and no patch is lost or doubled."""
    session = _Session(5, error)
    encoder, pixels = _encoder(session), _pixels(11)
    assert encoder.encode(pixels).matrix == pytest.approx(expected(pixels, matrix()), abs=1e-5)
    assert session.sizes == [11, 5, 5, 1]
    session.sizes.clear()
    encoder.encode(pixels)
    assert max(session.sizes) == 5


def test_a_device_without_room_for_one_patch_is_an_error() -> None:
    """Not even one patch fits; a fixed batch and a patch alone cannot be halved."""
    for encoder in (
        _encoder(_Session(0, MemoryError())),
        _encoder(_Session(3, MemoryError()), batch=4),
        _encoder(_Session(0, MemoryError()), alone=True),
    ):
        with pytest.raises(DeviceMemory, match="colours"):
            encoder.encode(_pixels(4))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("CUDA failure 700: an illegal memory access", DeviceLost),
        ("CUDNN_STATUS_EXECUTION_FAILED", DeviceLost),
        ("bad shape of UID 1.2.3", WeightsInvalid),
    ],
)
def test_faults_of_a_run_are_ours(text: str, kind: type[SlidewireError]) -> None:
    """A lost GPU ends the process, anything else is the network's; the library's own text is not passed on."""
    with pytest.raises(kind) as caught:
        _encoder(_Session(0, RuntimeError(text))).encode(_pixels(1))
    assert text not in str(caught.value)
