"""Golden vectors of EXAONEPath, by the reference: ``python -m tests.reference.make_golden``; ten seconds.

The checkpoint is made of a seed and the patches are cut from the public CMU section, so that only numbers are kept.
"""

from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from tests.reference import exaonepath
from tests.services.slides import SAMPLE_CACHE
from worker.demo.sample import fetch_sample, read_sample

FILE: Final = Path(__file__).parents[1] / "golden" / "exaonepath.npz"
SEED: Final = 1
PLACES: Final = {224: ((500, 900), (1200, 1500), (0, 672)), 256: ((1000, 1100), (700, 2200))}
"""By the side of the patches, where they lie (x, y); the last of 224 px is glass."""


def patches(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Cut the patches of a side, (B, side, side, 3), from the section."""
    return np.stack([pixels[y : y + side, x : x + side] for x, y in PLACES[side]])


@torch.inference_mode()
def embed(state: exaonepath.State, batch: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return embeddings, and which patches kept their stains."""
    done = [exaonepath.preprocess(patch) for patch in batch]
    rows = [exaonepath.embed(state, image[None])[0] for image, _ in done]
    return torch.stack(rows).numpy(), np.array([stayed for _, stayed in done])


def main() -> None:
    """Write the file."""
    pixels, _ = read_sample(fetch_sample(SAMPLE_CACHE))
    state, kept = exaonepath.checkpoint(SEED), {}
    for side in PLACES:
        kept[f"rows_{side}"], kept[f"fallbacks_{side}"] = embed(state, patches(pixels, side))
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **kept)


if __name__ == "__main__":
    main()
