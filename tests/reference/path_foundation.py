"""Path Foundation as its model card's snippet runs it: one image at a time, divided by 255, `serving_default`."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def embed(saved_model: Path, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the embeddings of uint8 RGB patches (B, 224, 224, 3): float32 (B, 384)."""
    import tensorflow as tf

    infer = tf.saved_model.load(str(saved_model))
    vectors = []
    for patch in patches:
        tensor = tf.cast(tf.expand_dims(patch, axis=0), tf.float32) / 255.0
        embeddings = infer.signatures["serving_default"](tf.constant(tensor))
        vectors.append(embeddings["output_0"].numpy().flatten())
    return np.stack(vectors)
