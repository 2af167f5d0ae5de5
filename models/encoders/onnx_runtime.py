"""onnxruntime: any network in an ONNX file as an encoder, without PyTorch or TensorFlow."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import (
    DeviceLost,
    DeviceMemory,
    ExtraMissing,
    RequestError,
    SettingsInvalid,
    SlidewireError,
    WeightsInvalid,
)
from models.domain.patch import Rows
from models.encoders.arrays import prepare
from models.encoders.options import one_of, settle_options
from models.encoders.protocol import Encoder, EncoderSpec
from models.encoders.weights.published import find_weights

_LARGEST: Final = 2**31 - 1  # bytes of a protobuf message; larger networks keep their weights in files beside it
_TOGETHER: Final = 16  # patches given to a network that takes any number
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """A `Model` of an ONNX file: one float32 input of images, NCHW or NHWC, and an output (B, D).

    Its options: ``deterministic=yes`` runs each patch alone, so that it gets the same bytes in any batch;
    ``output=NAME`` says which of several outputs the embedding is. The precision is the file's own.

    Parameters
    ----------
    spec : EncoderSpec
        Pre-processing, input size and dimension; the file must agree.
    file : Path or None
        The weights to use if none are given: an ``.onnx`` file, or the folder of one that keeps its weights beside it.
    """

    spec: EncoderSpec
    file: Path | None = None

    def settle(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """Check ``deterministic`` and ``output``."""
        return settle_options(self.spec, options, {"deterministic": one_of("yes", "no"), "output": _named})

    def weights(self, given: Path | None, store: Path | None = None) -> Path | None:
        """Return the given file or folder, the declared one, or what was fetched."""
        return find_weights(self.spec, given or self.file, store)

    def load(self, weights: Path | None, options: Mapping[str, str], device: str = "auto") -> Encoder:
        """Open the file; needs the extra ``onnx``."""
        settled = self.settle(options)
        if weights is None:
            raise WeightsInvalid(f"The encoder {self.spec.name} needs weights: an .onnx file.")
        deterministic = settled.get("deterministic") == "yes"
        session = _open_session(require_onnxruntime(self.spec.name), weights, device, deterministic=deterministic)
        port = _Port.of(session, self.spec, settled.get("output", ""))
        return OnnxEncoder(self.spec, session, port, alone=deterministic)


class OnnxEncoder:
    """An `Encoder` around a session of onnxruntime.

    Parameters
    ----------
    spec : EncoderSpec
    session : onnxruntime.InferenceSession
    port : _Port
        Where images go in and embeddings come out.
    alone : bool
        Each patch is run by itself, at the first place of the network's batch.
    """

    def __init__(self, spec: EncoderSpec, session: Any, port: "_Port", *, alone: bool = False) -> None:
        self._spec = spec
        self._session = session
        self._port = port
        self._alone = alone
        self._together = 1 if alone else port.batch or _TOGETHER

    def encode(self, pixels: NDArray[np.uint8]) -> Rows:
        """Embed uint8 RGB patches (B, H, W, 3); return float32 (B, D)."""
        parts, start = [], 0
        while start < len(pixels):
            part = pixels[start : start + self._together]
            try:
                parts.append(self._run(prepare(part, self._spec)))
            except DeviceMemory:
                if len(part) == 1 or self._port.batch or self._alone:
                    raise
                self._together = len(part) // 2
                continue
            start += len(part)
        return Rows(np.concatenate(parts))

    def _run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        count, port = len(images), self._port
        if port.batch > count:
            images = np.concatenate([images, np.zeros((port.batch - count, *images.shape[1:]), np.float32)])
        if port.channels_first:
            images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        try:
            (found,) = self._session.run([port.output], {port.input: images})
        except Exception as exc:  # onnxruntime's errors have no base of their own
            raise _failure(self._spec, exc) from exc
        return np.asarray(found, np.float32)[:count]


@dataclass(frozen=True, slots=True)
class _Port:
    """Where a network takes images, and where it gives embeddings; `batch` is 0 where it takes any number."""

    input: str
    output: str
    batch: int
    channels_first: bool

    @classmethod
    def of(cls, session: Any, spec: EncoderSpec, output: str) -> "_Port":
        """Read it from the graph.

        Raises
        ------
        WeightsInvalid
            The graph is not one from `input_px` images to `dimension` numbers.
        RequestError
            It has several outputs and none of them was chosen, or one that it has not.
        """
        inputs = session.get_inputs()
        if len(inputs) != 1:
            raise _refuse(spec, f"it has {len(inputs)} inputs, not one")
        images = inputs[0]
        if images.type != "tensor(float)":
            raise _refuse(spec, f"its input is {images.type}, not tensor(float)")
        if len(images.shape) != 4 or 3 not in (images.shape[1], images.shape[3]):
            raise _refuse(spec, f"its input has the shape {_shape(images.shape)}, not that of RGB images")
        channels_first = images.shape[1] == 3
        sides = images.shape[2:] if channels_first else images.shape[1:3]
        if any(isinstance(side, int) and side != spec.input_px for side in sides):
            raise _refuse(spec, f"it takes images of {_shape(sides)} px, not {spec.input_px}")
        batch = images.shape[0] if isinstance(images.shape[0], int) else 0
        return cls(images.name, _choose_output(session.get_outputs(), spec, output), batch, channels_first)


def _choose_output(outputs: Sequence[Any], spec: EncoderSpec, name: str) -> str:
    names = [one.name for one in outputs]
    shown = ", ".join(one[:40] for one in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    if name and name not in names:
        raise RequestError(
            f"--encoder-option output: the network of {spec.name} has no output {name!r}; it has {shown}."
        )
    if not name and len(names) != 1:
        raise RequestError(
            f"The network of {spec.name} has {len(names)} outputs: --encoder-option output=, one of {shown}."
        )
    chosen = outputs[names.index(name)] if name else outputs[0]
    if chosen.type not in {"tensor(float)", "tensor(float16)", "tensor(double)"}:
        raise _refuse(spec, f"its output is {chosen.type}, no tensor of floating-point numbers")
    width = chosen.shape[-1] if len(chosen.shape) == 2 else None
    if len(chosen.shape) != 2 or (isinstance(width, int) and width != spec.dimension):
        raise _refuse(spec, f"its output has the shape {_shape(chosen.shape)}, not (batch, {spec.dimension})")
    found: str = chosen.name
    return found


def require_onnxruntime(encoder: str) -> ModuleType:
    """Import onnxruntime, or say how to install it."""
    try:
        import onnxruntime
    except ImportError as exc:
        raise ExtraMissing(f"The encoder {encoder} needs the extra 'onnx': pip install 'slidewire[onnx]'.") from exc
    module: ModuleType = onnxruntime
    return module


def _open_session(runtime: ModuleType, path: Path, device: str, *, deterministic: bool) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what it would print of a file is said by our own error
    options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    options.use_deterministic_compute = deterministic
    providers = _providers(runtime.get_available_providers(), device)
    file = _file_of(path)
    try:
        if path.is_dir():
            session = runtime.InferenceSession(str(file), options, providers=providers)
        else:  # the digest of the weights is this file's: no other may have a part in them
            with tempfile.TemporaryDirectory() as empty:
                options.add_session_config_entry("session.model_external_initializers_file_folder_path", empty)
                session = runtime.InferenceSession(file.read_bytes(), options, providers=providers)
    except OSError as exc:
        raise WeightsInvalid(f"The weights {path.name} cannot be read: {exc.strerror}.") from exc
    except Exception as exc:  # onnxruntime's errors have no base of their own
        raise WeightsInvalid(f"The weights {path.name} {_reason(exc)}") from exc
    if device.startswith("cuda") and session.get_providers()[0] != "CUDAExecutionProvider":
        raise SettingsInvalid(f"device = {device!r}, but onnxruntime cannot use it: check its CUDA libraries.")
    return session


def _file_of(path: Path) -> Path:
    if path.is_dir():
        found = sorted(path.glob("*.onnx"))
        if len(found) != 1:
            raise WeightsInvalid(f"The folder {path.name} holds {len(found)} files *.onnx, not one.")
        return found[0]
    if path.is_file() and path.stat().st_size > _LARGEST:
        raise WeightsInvalid(
            f"The weights {path.name} are larger than an ONNX file can be (2 GiB): they are no such file."
        )
    return path


def _providers(available: Sequence[str], device: str) -> list[Any]:
    """Return what to run on, best first.

    Raises
    ------
    SettingsInvalid
        The device is not there, or this onnxruntime was built without it.
    """
    if device == "cpu" or (device == "auto" and "CUDAExecutionProvider" not in available):
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in available:
        raise SettingsInvalid(
            f"device = {device!r}, but this onnxruntime has no CUDA: install onnxruntime-gpu, or 'cpu'."
        )
    number = int(device.partition(":")[2] or 0)
    return [("CUDAExecutionProvider", {"device_id": number}), "CPUExecutionProvider"]


def _failure(spec: EncoderSpec, exc: Exception) -> SlidewireError:
    """Translate what went wrong in a run."""
    text = str(exc)
    if isinstance(exc, MemoryError) or "allocate" in text or "out of memory" in text:
        return DeviceMemory(f"Not even one patch fits into the device's memory beside the network of {spec.name}.")
    if "CUDA" in text or "CUDNN" in text:
        return DeviceLost(f"The GPU failed under the network of {spec.name}: {type(exc).__name__}.")
    return _refuse(spec, f"it does not run on {spec.input_px} px images ({type(exc).__name__})")


def _reason(exc: Exception) -> str:
    text = str(exc)
    if "xternal data" in text or "xternal initializer" in text:
        return (
            "keep a part of themselves in other files, which are not there or lie elsewhere: give --weights the folder "
            "that holds the one .onnx file and those."
        )
    if "is not a registered function/op" in text:
        return "use operators that onnxruntime does not have."
    return f"are no ONNX network that onnxruntime can run, or are damaged ({type(exc).__name__})."


def _refuse(spec: EncoderSpec, what: str) -> WeightsInvalid:
    return WeightsInvalid(f"The network is not one of {spec.name}: {what}.")


def _shape(shape: Sequence[object]) -> str:
    return " x ".join(str(size)[:20] for size in shape)


def _named(value: str) -> str:
    if not value:
        raise RequestError("it is the name of one of the network's outputs")
    return value
