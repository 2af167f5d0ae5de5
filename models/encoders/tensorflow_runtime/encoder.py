"""TensorFlow, brought up on first use: device, determinism, batches in and out. Never fork after it was imported."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from models.domain.errors import DeviceLost, DeviceMemory, ExtraMissing, SettingsInvalid, WeightsInvalid
from models.domain.patch import Rows
from models.encoders.options import Check, Computing
from models.encoders.protocol import EncoderSpec
from models.encoders.tensorflow_runtime.import_noise import without_import_noise
from models.encoders.tensorflow_runtime.saved_model import Form, open_saved_model

_IMAGES: Final = 64
_IMAGES_DETERMINISTIC: Final = 16
"""Images at a time, always: what a processor adds up in which order depends on it."""


def checks(spec: EncoderSpec) -> dict[str, Check]:
    """Return the options of a TensorFlow encoder: ``precision``, ``deterministic``, ``xla``."""
    known = Computing.checks(spec)
    known["xla"] = known.pop("compile")
    return known


def computing(spec: EncoderSpec, options: Mapping[str, str]) -> Computing:
    """Return what settled options say; compiled means by XLA."""
    return replace(Computing.of(spec, options), compiled=options.get("xla") == "yes")


def require_tensorflow(encoder: str) -> ModuleType:
    """Import TensorFlow, or say how to install it."""
    # It is read when the library is loaded; who wants to see TensorFlow's own log sets it beforehand.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with without_import_noise():
            import tensorflow as tf
    except ImportError as exc:
        raise ExtraMissing(
            f"The encoder {encoder} needs the extra 'tensorflow': pip install 'slidewire[tensorflow]'."
        ) from exc
    tf.get_logger().setLevel("ERROR")
    module: ModuleType = tf
    return module


def pick_device(asked: str, gpus: int) -> str:
    """Return TensorFlow's name of the device that was asked for: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises
    ------
    SettingsInvalid
        There is no such GPU.
    """
    if asked == "cpu" or (asked == "auto" and not gpus):
        return "/CPU:0"
    number = int(asked.partition(":")[2] or 0)
    if number >= gpus:
        raise SettingsInvalid(f"The device {asked} is not there: TensorFlow sees {gpus} GPUs here. Use auto or cpu.")
    return f"/GPU:{number}"


def load_encoder(
    spec: EncoderSpec, folder: Path, way: Computing, device: str, form: Form | None = None
) -> "TensorflowEncoder":
    """Load a SavedModel that takes RGB in 0..1 as an encoder.

    Determinism is a switch of the whole process, which stays on: what is loaded later computes so too.

    Raises
    ------
    ExtraMissing, WeightsInvalid, SettingsInvalid
    DeviceMemory
        The weights do not fit.
    """
    tf = require_tensorflow(spec.name)
    place = _prepare_device(tf, device)
    tf.config.experimental.enable_tensor_float_32_execution(False)  # noqa: FBT003 - else a GPU rounds fp32 to 10 bits
    if way.deterministic:
        tf.config.experimental.enable_op_determinism()
    with _translated(tf, spec, place), tf.device(place):
        try:
            model = open_saved_model(tf, folder, spec, form or Form())
        except tf.errors.ResourceExhaustedError as exc:
            raise DeviceMemory(f"The weights of {spec.name} do not fit into the memory of {place.strip('/')}.") from exc
    network = tf.function(model.features, jit_compile=True, autograph=False) if way.compiled else model.features
    steady = model.images or (_IMAGES_DETERMINISTIC if way.deterministic else None)
    return TensorflowEncoder(spec, network, place, steady=steady, padded=way.compiled)


def _prepare_device(tf: ModuleType, asked: str) -> str:
    """Choose the device; leave a GPU's memory to others until it is needed, and GPUs alone if none was asked for."""
    with suppress(RuntimeError):  # the devices are up already: an encoder was loaded before
        if asked == "cpu":
            tf.config.set_visible_devices([], "GPU")
        for gpu in tf.config.get_visible_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)  # noqa: FBT003 - TensorFlow's own signature
    return pick_device(asked, len(tf.config.list_logical_devices("GPU")))


class TensorflowEncoder:
    """An `Encoder` around a TensorFlow function from images in 0..1 to features.

    Parameters
    ----------
    spec : EncoderSpec
    network : callable
        float32 tensor (N, input_px, input_px, 3) to float32 tensor (N, D).
    device : str
        As TensorFlow names it.
    steady : int or None
        Images at a time, no more and no less; None: as many as fit.
    padded : bool
        A smaller batch is filled up, because each size would be compiled.
    """

    def __init__(
        self, spec: EncoderSpec, network: Callable[[Any], Any], device: str, *, steady: int | None, padded: bool
    ) -> None:
        import tensorflow as tf

        self._tf = tf
        self._spec = spec
        self._network = network
        self._device = device
        self._steady = steady is not None
        self._padded = padded or self._steady
        self._images = steady or _IMAGES

    def encode(self, pixels: NDArray[np.uint8]) -> Rows:
        """Embed uint8 RGB patches (B, H, W, 3); return float32 (B, D).

        Raises
        ------
        DeviceMemory
            Not one image fits, or not as many as must be computed at a time.
        DeviceLost
            The GPU failed.
        WeightsInvalid
            TensorFlow cannot compute the network.
        """
        images = resized(pixels, self._spec.input_px)
        parts, start = [], 0
        while start < len(images):
            part = images[start : start + self._images]
            try:
                parts.append(self._features(part))
            except self._tf.errors.ResourceExhaustedError as exc:
                self._halve(exc)
            else:
                start += len(part)
        return Rows(np.concatenate(parts))

    def _features(self, part: NDArray[np.uint8]) -> NDArray[np.float32]:
        tf, count = self._tf, len(part)
        if self._padded and count < self._images:
            part = np.concatenate([part, np.zeros((self._images - count, *part.shape[1:]), np.uint8)])
        with _translated(tf, self._spec, self._device), tf.device(self._device):
            # As the model card divides; inside a function TensorFlow would multiply by 1/255, which is not the same.
            found: NDArray[np.float32] = self._network(tf.cast(tf.constant(part), tf.float32) / 255.0).numpy()
        return found[:count]

    def _halve(self, exc: Exception) -> None:
        if self._steady or self._images == 1:
            raise DeviceMemory(
                f"{self._images} images of {self._spec.name} do not fit into the memory of {self._device.strip('/')}: "
                "end what else runs there, or use another device."
            ) from exc
        self._images //= 2


def resized(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Bring patches (B, H, W, 3) to another side as Path Foundation's server does: by area, or enlarged, bicubic."""
    given = pixels.shape[1]
    if given == side:
        return pixels
    how = cv2.INTER_AREA if given > side else cv2.INTER_CUBIC
    return np.stack([np.asarray(cv2.resize(patch, (side, side), interpolation=how), np.uint8) for patch in pixels])


@contextmanager
def _translated(tf: ModuleType, spec: EncoderSpec, device: str) -> Iterator[None]:
    """Turn TensorFlow's errors into ours, but for want of memory, which can be helped."""
    lost = (tf.errors.InternalError, tf.errors.UnknownError, tf.errors.AbortedError, tf.errors.UnavailableError)
    try:
        yield
    except tf.errors.ResourceExhaustedError:
        raise
    except tf.errors.OpError as exc:
        if "GPU" in device and isinstance(exc, lost):
            raise DeviceLost(f"The GPU failed ({type(exc).__name__}): this process cannot use it any more.") from exc
        raise WeightsInvalid(
            f"TensorFlow cannot compute {spec.name} with these weights and options ({type(exc).__name__})."
        ) from exc
