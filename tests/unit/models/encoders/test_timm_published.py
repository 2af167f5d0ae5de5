"""The real timm, installed for these tests alone: the family, ResNet-50, CTransPath beside its fork."""

import json
from pathlib import Path

import pytest

from tests.services import timm_site

pytestmark = pytest.mark.faults  # it downloads 10 MB

_ROOT = Path(__file__).parents[4]

# What the authors' ctran.py says, in words of ours, on the fork's Swin; made weights in the published form.
_FORK = """
import numpy as np, timm_ctp
from torch import nn
from timm_ctp.models.layers.helpers import to_2tuple

class Stem(nn.Module):
    def __init__(self, img_size=224, patch_size=4, in_chans=3, embed_dim=96, norm_layer=None, flatten=True):
        super().__init__()
        self.img_size, self.patch_size = to_2tuple(img_size), to_2tuple(patch_size)
        self.grid_size = (56, 56)
        self.num_patches = 56 * 56
        eighth, quarter = embed_dim // 8, embed_dim // 4
        self.proj = nn.Sequential(
            nn.Conv2d(3, eighth, 3, 2, 1, bias=False), nn.BatchNorm2d(eighth), nn.ReLU(),
            nn.Conv2d(eighth, quarter, 3, 2, 1, bias=False), nn.BatchNorm2d(quarter), nn.ReLU(),
            nn.Conv2d(quarter, embed_dim, 1),
        )
        self.norm = norm_layer(embed_dim)

    def forward(self, images):
        return self.norm(self.proj(images).flatten(2).transpose(1, 2))

torch.manual_seed(3)
network = timm_ctp.create_model("swin_tiny_patch4_window7_224", embed_layer=Stem, pretrained=False)
network.head = nn.Identity()
network.eval()
for name, value in network.state_dict().items():
    if name.endswith("running_var"):
        value.uniform_(0.5, 2)
    elif value.is_floating_point() and "mask" not in name:
        value.add_(torch.randn_like(value) * 0.02)
pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
mean, std = (torch.tensor(one).view(3, 1, 1) for one in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
images = (images - mean) / std
with torch.no_grad():
    np.savez({folder!r} + "/fork.npz", pixels=pixels, features=network(images).numpy())
torch.save({{"model": network.state_dict()}}, {folder!r} + "/ctranspath.pth")
"""

_OURS = """
import json, pathlib
import numpy as np
from models.domain.errors import WeightsInvalid
from models.encoders import registry
folder = pathlib.Path({folder!r})
given = np.load(folder / "fork.npz")
model = registry.find("ctranspath")
found = registry.load(model, folder / "ctranspath.pth", {{}}, "cpu").encode(given["pixels"]).matrix
state = torch.load(folder / "ctranspath.pth", weights_only=True)["model"]
del state["layers.2.downsample.norm.bias"]
torch.save({{"model": state}}, folder / "part.pth")
try:
    said = str(model.load(folder / "part.pth", {{}}, "cpu"))
except WeightsInvalid as exc:
    said = str(exc)
print(json.dumps([float(np.abs(found - given["features"]).max()), float(np.abs(given["features"]).max()), said]))
"""

_FAMILY = """
import json, pathlib
import numpy as np, timm
from models.encoders import registry
folder = pathlib.Path({folder!r})
facts = []
for name in ("timm:resnet18.a1_in1k", "resnet50-imagenet", "timm:vit_tiny_patch16_224.augreg_in21k"):
    model = registry.find(name)
    torch.manual_seed(1)
    network = timm.create_model(model.architecture, pretrained=False).eval()
    torch.save(network.state_dict(), folder / "whole.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    encoder = registry.load(model, folder / "whole.pth", {{"deterministic": "yes"}}, "cpu")
    found = encoder.encode(pixels).matrix
    images = encoder._images.prepared(encoder._images.unit(torch.from_numpy(pixels)))
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(images), pre_logits=True).numpy()
    spec = model.spec
    facts.append([spec.name, spec.dimension, float(np.abs(found - expected).max() / np.abs(expected).max())])
print(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install timm beside, not into, the environment."""
    return timm_site.install(tmp_path_factory.mktemp("timm"))


def test_ctranspath_has_the_numbers_of_the_fork(site: Path, tmp_path: Path) -> None:
    """A checkpoint in the published form gives what the fork gives, within 1e-5; a missing key is named."""
    timm_site.run(site, _FORK.format(folder=str(tmp_path)), _ROOT)
    worst, scale, said = json.loads(timm_site.run(site, _OURS.format(folder=str(tmp_path)), _ROOT))
    assert worst <= 1e-5 * scale
    assert "layers.3.downsample.norm.bias" in said


def test_networks_of_timm_have_timms_numbers(site: Path, tmp_path: Path) -> None:
    """Found by name, with a classifier's checkpoint: the features are those that timm gives before its head."""
    facts = json.loads(timm_site.run(site, _FAMILY.format(folder=str(tmp_path)), _ROOT))
    names = ["timm:resnet18.a1_in1k", "resnet50-imagenet", "timm:vit_tiny_patch16_224.augreg_in21k"]
    assert [fact[:2] for fact in facts] == [[name, size] for name, size in zip(names, (512, 2048, 192), strict=True)]
    assert max(fact[2] for fact in facts) <= 1e-5
