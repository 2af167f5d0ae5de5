"""``timm:NAME``, ResNet-50 and CTransPath: specs from timm's own numbers, weights strictly, the fork's names mapped."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.domain.errors import ExtraMissing, RequestError, UnknownEncoder, WeightsInvalid
from models.encoders import registry
from models.encoders.ctranspath import MODEL as CTRANSPATH
from models.encoders.resnet import MODEL as RESNET
from models.encoders.timm_networks.conv_stem import ConvStem
from models.encoders.timm_networks.family import find_model
from tests.services.timm_stand_in import StandIn


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Put a stand-in where timm would be."""
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "timm", stand_in.module())
    return stand_in


def _state() -> dict[str, Any]:
    torch.manual_seed(0)
    return dict(StandIn().module().create_model("tiny", pretrained=False, num_classes=0).state_dict())


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The family and the declared two say what to install; their specs are read without it."""
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ExtraMissing, match=r"slidewire\[timm\]"):
        find_model("tiny")
    for model in (RESNET, CTRANSPATH):
        assert registry.find(model.spec.name) is model
        with pytest.raises(ExtraMissing, match=r"slidewire\[timm\]"):
            model.build()


def test_the_prefix_leads_to_the_family(timm: StandIn) -> None:
    """``timm:tiny`` is found through the registry, and is called by its full name: what is usual may change."""
    model = registry.find("timm:tiny")
    assert model.spec.name == "timm:tiny.a1_in1k"
    assert "timm" in registry.families()


@pytest.mark.parametrize("rest", ["nix", "tiny.nix", ""])
def test_networks_that_timm_has_not_are_refused(timm: StandIn, rest: str) -> None:
    """Neither an unknown architecture nor an unknown tag is taken for something else."""
    with pytest.raises(UnknownEncoder, match="list_models"):
        find_model(rest)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"hf_hub_id": None}, "hub"),
        ({"input_size": (1, 32, 32)}, "1 x 32 x 32"),
        ({"input_size": (3, 32, 16)}, "3 x 32 x 16"),
        ({"crop_mode": "border"}, "border"),
        ({"interpolation": "random"}, "random"),
    ],
)
def test_what_cannot_be_prepared_as_published_is_refused(timm: StandIn, fields: dict[str, Any], said: str) -> None:
    """A pre-processing that there is none of here is not replaced by another."""
    timm.changed(**fields)
    with pytest.raises(RequestError, match=said):
        find_model("tiny")


def test_feature_maps_are_refused(timm: StandIn) -> None:
    """A network without a last pooling gives no embedding."""
    timm.maps = True
    with pytest.raises(RequestError, match="row"):
        find_model("tiny")


@pytest.mark.parametrize(("crop", "resized"), [(0.95, 33), (0.875, 36), (0.9, 35), (1.0, None)])
def test_the_size_before_the_crop_is_timms(timm: StandIn, crop: float, resized: int | None) -> None:
    """What it is resized to is rounded down, as timm does; a crop of everything is none."""
    timm.changed(crop_pct=crop)
    assert find_model("tiny").spec.resize_px == resized


def test_the_spec_says_what_timm_says(timm: StandIn) -> None:
    """Dimension, normalisation, licence and where the weights lie."""
    timm.changed(mean=(0.5, 0.25, 0.75), std=(0.5, 0.25, 0.125), interpolation="bilinear")
    spec = find_model("tiny").spec
    assert (spec.dimension, spec.input_px, spec.interpolation) == (6, 32, "bilinear")
    assert (spec.mean, spec.std) == ((0.5, 0.25, 0.75), (0.5, 0.25, 0.125))
    assert spec.hub is not None
    assert (spec.hub.repository, spec.hub.files) == ("timm/tiny.a1_in1k", ("model.safetensors",))
    assert (spec.licence.name, spec.licence.ask) == ("apache-2.0", False)


@pytest.mark.parametrize("licence", ["cc-by-nc-4.0", None])
def test_licences_that_restrict_or_are_not_stated_ask(timm: StandIn, licence: str | None) -> None:
    """Who runs such a model must have said that they accept its terms, wherever they are written."""
    timm.changed(license=licence)
    found = find_model("tiny").spec.licence
    assert found.ask
    assert found.name
    assert found.url.endswith("timm/tiny.a1_in1k")


@pytest.mark.parametrize("inside", [(), ("state_dict",), ("model",)])
def test_weights_of_a_classifier_are_taken_without_its_head(
    timm: StandIn, tmp_path: Path, inside: tuple[str, ...]
) -> None:
    """The named head is dropped, wherever the state dict lies; the numbers are the network's."""
    state: dict[str, Any] = {**_state(), "fc.weight": torch.zeros(10, 6), "fc.bias": torch.zeros(10)}
    for key in inside:
        state = {key: state}
    path = tmp_path / "tiny.pth"
    torch.save(state, path)
    model = find_model("tiny")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 33, 33, 3), np.uint8)
    found = registry.load(model, path, {}, "cpu").encode(pixels).matrix
    own = _state()
    images = torch.from_numpy(pixels[:, :32, :32]).permute(0, 3, 1, 2) / 255  # of 33, 32 in the middle: the first
    images = (images - torch.tensor(model.spec.mean).view(3, 1, 1)) / torch.tensor(model.spec.std).view(3, 1, 1)
    maps = functional.conv2d(images, own["0.weight"], own["0.bias"], stride=4) / (1 + 1e-5) ** 0.5
    assert found == pytest.approx(maps.relu().mean((2, 3)).numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"0.weight": None}, r"0\.weight"),
        ({"head.weight": torch.ones(1)}, r"head\.weight"),
        ({"fc.scale": torch.ones(1)}, r"fc\.scale"),
        ({"0.bias": torch.ones(7)}, r"0\.bias"),
    ],
)
def test_weights_of_another_network_are_refused(
    timm: StandIn, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    """All but the named head must fit, key by key."""
    state = {key: value for key, value in {**_state(), **change}.items() if value is not None}
    path = tmp_path / "other.pth"
    torch.save(state, path)
    with pytest.raises(WeightsInvalid, match=said):
        find_model("tiny").load(path, {}, "cpu")
    with pytest.raises(WeightsInvalid, match="weights"):
        find_model("tiny").load(None, {}, "cpu")


def test_the_names_of_the_fork_become_todays() -> None:
    """A picture of tokens is halved at the end of a stage in the old names, at the beginning of the next in the new."""
    old = {
        "layers.0.downsample.norm.weight": 1,
        "layers.2.downsample.reduction.weight": 2,
        "layers.0.blocks.1.attn_mask": 3,
        "layers.3.blocks.1.attn.relative_position_index": 4,
        "layers.3.blocks.1.attn.relative_position_bias_table": 5,
        "patch_embed.proj.0.weight": 6,
        "norm.weight": 7,
    }
    assert CTRANSPATH.features(old) == {
        "layers.1.downsample.norm.weight": 1,
        "layers.3.downsample.reduction.weight": 2,
        "layers.3.blocks.1.attn.relative_position_bias_table": 5,
        "patch_embed.proj.0.weight": 6,
        "norm.weight": 7,
    }


def test_the_stem_is_the_authors() -> None:
    """Two convolutions of stride 2 at an eighth and a quarter of the width, then 1 x 1, then the norm of each token."""
    torch.manual_seed(1)
    stem = ConvStem(96, 32, torch.nn.LayerNorm).eval()
    images = torch.randn(2, 3, 32, 32)
    state = stem.state_dict()
    x = images
    for number in (0, 3):
        x = functional.conv2d(x, state[f"proj.{number}.weight"], stride=2, padding=1)
        x = (x / (1 + 1e-5) ** 0.5).relu()
    assert x.shape[1] == 24
    x = functional.conv2d(x, state["proj.6.weight"], state["proj.6.bias"]).permute(0, 2, 3, 1)
    expected = functional.layer_norm(x, (96,))
    assert stem.grid_size == (8, 8)
    assert torch.allclose(stem(images), expected, atol=1e-5)
    assert {re.sub(r"\.\w+$", "", key) for key in state} == {"proj.0", "proj.1", "proj.3", "proj.4", "proj.6", "norm"}
