"""The declared Vision Transformers have the published shape, down to the last parameter."""

from typing import Final

import pytest
import torch

from models.encoders import pathology_vits
from models.encoders.registry import find
from models.encoders.vit.model import VitModel
from models.encoders.vit.network import VisionTransformer
from tests.services.made_vits import parameters, shapes

# Millions of parameters, as cards and benchmarks give them, and what an embedding is long.
PUBLISHED: Final = {
    "phikon": (85.8, 768),
    "virchow": (631.2, 2560),
    "virchow2": (631.2, 2560),
    "gigapath": (1134.95, 1536),
    "h-optimus-0": (1134.77, 1536),
    "uni": (303.4, 1024),
    "uni2-h": (681.4, 1536),
    "lunit-dino-s16": (21.7, 384),
    "lunit-dino-s8": (21.7, 384),
    "vit-l16-imagenet": (303.3, 1024),
}
# Bytes, as the hub lists them; float32, and some hundred bytes of names and sizes a tensor.
FILES: Final = {
    "uni": 1_213_527_781,
    "uni2-h": 2_725_669_217,
    "gigapath": 4_540_023_137,
    "h-optimus-0": 4_539_305_018,
    "virchow2": 2_525_001_112,
}

# Rows of the position embedding: with a place for the class token, for it and four registers, or for patches alone.
PLACES: Final = {"uni": 197, "gigapath": 197, "virchow": 257, "virchow2": 261, "h-optimus-0": 256, "uni2-h": 256}

MODELS: Final = {one.spec.name: one for one in vars(pathology_vits).values() if isinstance(one, VitModel)}


def test_all_of_them_are_published_and_registered() -> None:
    """What is declared can be found, and what is known of it is below."""
    assert MODELS.keys() == PUBLISHED.keys()
    assert all(find(name) is model for name, model in MODELS.items())


@pytest.mark.parametrize("name", PUBLISHED)
def test_keys_and_shapes_are_the_published_ones(name: str) -> None:
    """The network has a place for every tensor of the published form, and none besides."""
    with torch.device("meta"):
        network = VisionTransformer(MODELS[name].shape)
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == shapes(MODELS[name].shape)


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_sizes_are_the_published_ones(name: str, published: tuple[float, int]) -> None:
    """The count of parameters agrees with what the card says, to the digits that it gives."""
    millions, dimension = published
    with torch.device("meta"):
        network = VisionTransformer(MODELS[name].shape)
        features = network(torch.empty(1, 3, MODELS[name].spec.input_px, MODELS[name].spec.input_px))
    counted = sum(one.numel() for one in network.parameters()) / 1e6
    assert counted == pytest.approx(millions, abs=0.06)
    assert features.shape == (1, dimension)
    assert MODELS[name].spec.dimension == MODELS[name].shape.dimension == dimension


@pytest.mark.parametrize(("name", "size"), FILES.items())
def test_files_are_as_large_as_published(name: str, size: int) -> None:
    """The published file holds these parameters and hardly anything else."""
    shape = MODELS[name].shape
    assert 0 <= size - 4 * parameters(shape) < 500 * len(shapes(shape))


@pytest.mark.parametrize(("name", "places"), PLACES.items())
def test_places_are_the_published_ones(name: str, places: int) -> None:
    """Whether class token and registers have places is too small a matter to be seen in the sizes above."""
    with torch.device("meta"):
        assert VisionTransformer(MODELS[name].shape).pos_embed.shape[1] == places


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_what_is_declared_agrees_with_itself(model: VitModel) -> None:
    """The network is run at the size that its places were learnt for, and patches come at 0.5 um/px first."""
    spec, shape = model.spec, model.shape
    assert spec.input_px == shape.image_px
    assert shape.width % shape.heads == 0
    assert spec.precisions[0] == "fp32"
    assert spec.spacings_um[:1] in {(), (0.5,)}
    assert spec.resize_px is None or spec.resize_px > spec.input_px
    if spec.hub is not None:
        assert spec.source == f"https://huggingface.co/{spec.hub.repository}"
        assert len(spec.revision) == 40
