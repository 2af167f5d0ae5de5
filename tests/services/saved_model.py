"""SavedModels of the form in which Path Foundation is published, small and with random weights; and such as are not."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

_WIDTH = 32


@dataclass(frozen=True)
class Published:
    """What a SavedModel declares, by default what Path Foundation's does; and what it computes.

    Parameters
    ----------
    outputs : mapping of str to int
        Numbers an image, by name.
    images : int or None
        The only number of images it takes.
    nan : bool
        It gives NaN for images that are not black.
    reads : bool
        It reads a file of the machine that it runs on.
    vague : bool
        It does not say how many numbers it gives.
    """

    signature: str = "serving_default"
    input_name: str = "inputs"
    dtype: str = "float32"
    shape: tuple[int, ...] = (224, 224, 3)
    outputs: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({"output_0": 384}))
    output_dtype: str = "float32"
    images: int | None = None
    nan: bool = False
    reads: bool = False
    vague: bool = False
    seed: int = 0


def write_saved_model(folder: Path, published: Published | None = None) -> Path:
    """Write a network of one attention layer over 16 px squares: patches, attention, norm, mean."""
    import tensorflow as tf

    made = published or Published()
    rng = np.random.default_rng(made.seed)

    def variable(*shape: int) -> Any:
        scale = float(np.prod(shape[:-1])) ** -0.5
        return tf.Variable(rng.normal(0, scale, shape).astype(np.float32))

    module = tf.Module()
    module.embed, module.qkv = variable(16, 16, 3, _WIDTH), variable(_WIDTH, 3 * _WIDTH)
    module.heads = {name: variable(_WIDTH, size) for name, size in made.outputs.items()}

    def serve(given: Any) -> dict[str, Any]:
        images = tf.reshape(tf.cast(given, tf.float32), (-1, *made.shape[:2], 3))
        tokens = tf.nn.conv2d(4 * images - 2, module.embed, 16, "VALID")
        tokens = tf.reshape(tokens, (-1, tokens.shape[1] * tokens.shape[2], _WIDTH))
        query, key, value = tf.split(tokens @ module.qkv, 3, axis=-1)
        tokens += tf.nn.softmax(tf.matmul(query, key, transpose_b=True) * _WIDTH**-0.5) @ value
        mean = tf.reduce_mean(tf.nn.gelu(tokens), 1)
        if made.nan:
            mean /= tf.cast(tf.reduce_max(images) <= 0, tf.float32)
            mean -= mean
        if made.reads:
            mean += tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)
        found = {name: tf.cast(mean @ head, made.output_dtype) for name, head in module.heads.items()}
        if made.vague:
            found = {
                name: tf.ensure_shape(tf.raw_ops.PlaceholderWithDefault(input=row, shape=None), None)
                for name, row in found.items()
            }
        return found

    spec = tf.TensorSpec((made.images, *made.shape), made.dtype, name=made.input_name)
    module.serve = tf.function(serve, input_signature=[spec], autograph=False)
    tf.saved_model.save(module, str(folder), signatures={made.signature: module.serve})
    return folder


@pytest.fixture(scope="session")
def saved_model_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Write the published form once."""
    pytest.importorskip("tensorflow")
    folder = write_saved_model(tmp_path_factory.mktemp("path-foundation") / "snapshot")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def saved_model(saved_model_of_this_session: Path, tmp_path: Path) -> Path:
    """Give a copy of the published form, to be spoilt."""
    return Path(shutil.copytree(saved_model_of_this_session, tmp_path / "path-foundation"))
