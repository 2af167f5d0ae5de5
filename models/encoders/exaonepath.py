"""exaonepath: LG AI Research's EXAONEPath 1.0, a ViT-B/16 on stain-normalised patches; arXiv:2408.00380.

Its model card's pre-processing, in that order: Macenko at the patch's own size, unrounded; bicubic to 256 px, here
always with antialiasing; the middle 224 px; ImageNet's mean and standard deviation. Its network has LayerNorms of eps
1e-6, as the card's ``vit_base()``; the card's other way, ``from_pretrained``, happens to build it with 1e-5.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from models.domain.errors import RequestError
from models.encoders.options import Computing, settle_options
from models.encoders.protocol import Encoder, EncoderSpec, Hub, Licence
from models.encoders.pytorch.encoder import TorchEncoder
from models.encoders.vit.model import VitModel
from models.encoders.vit.shape import VitShape
from models.imaging.stain import PUBLISHED, StainReference, fit

STAIN_TARGET: Final = "stain_target"
PUBLISHED_DEFAULT: Final = "published-default"

_SPEC = EncoderSpec(
    name="exaonepath",
    family="ViT-B/16, DINO, on stain-normalised patches",
    dimension=768,
    input_px=224,
    spacings_um=(0.5,),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    interpolation="bicubic",
    extra="torch",
    licence=Licence(
        "EXAONEPath AI Model License 1.0 - NC",
        "https://huggingface.co/LGAI-EXAONE/EXAONEPath/blob/main/LICENSE",
        ask=True,
    ),
    source="https://huggingface.co/LGAI-EXAONE/EXAONEPath",
    revision="383a1247a2c543d2a04787eb9a71292f74c9ce9f",
    weights_sha256="",
    preprocessing_version=1,
    resize_px=256,
    patches_px=(256, 224),
    stain="macenko",
    precisions=("fp32", "bf16", "fp16"),
    hub=Hub("LGAI-EXAONE/EXAONEPath", ("model.safetensors", "macenko_target/*.png")),
)


class _ExaonePath(VitModel):
    """A `Model` with a stain step before the network."""

    __slots__ = ()

    def settle(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """Return the options that every network has, and the numbers of the image that ``stain_target`` names."""
        checks = {**Computing.checks(self.spec), STAIN_TARGET: _settled_target}
        settled = settle_options(self.spec, options, checks)
        if STAIN_TARGET not in settled:
            raise RequestError(
                f"{self.spec.name} needs the image that stains are brought to: it comes with the model, in the folder "
                f"macenko_target of its repository (slidewire encoders fetch {self.spec.name}); say --encoder-option "
                f"{STAIN_TARGET}=PATH, or on purpose {STAIN_TARGET}={PUBLISHED_DEFAULT}, with which the embeddings "
                "are not quite the published ones."
            )
        return settled

    def load(self, weights: Path | None, options: Mapping[str, str], device: str = "auto") -> Encoder:
        """Load the network strictly; needs the extra ``torch``."""
        settled = self.settle(options)
        computing, network = Computing.of(self.spec, settled), self.network(weights)
        return TorchEncoder(self.spec, network, computing, device, before=_stain_step(settled[STAIN_TARGET]))


def _settled_target(value: str) -> str:
    """Return the name of the published default, or the numbers of an image, as one line."""
    if value == PUBLISHED_DEFAULT:
        return value
    if StainReference.is_text(value):
        return StainReference.parse(value).text()
    path = Path(value).expanduser()
    try:
        with Image.open(path) as image:
            # Whatever it is: alpha is dropped, grey is repeated. The published code takes nothing but RGB.
            pixels = np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as exc:
        raise RequestError(f"{path.name} is no image: give the PNG that comes with the model") from exc
    except OSError as exc:
        raise RequestError(f"the image {path.name} cannot be read: {exc.strerror or 'it is damaged'}") from exc
    except (Image.DecompressionBombError, ValueError, SyntaxError) as exc:  # Pillow's, for what is no sane image
        raise RequestError(f"the image {path.name} is too large or damaged") from exc
    return fit(pixels).text()


def _stain_step(target: str) -> Callable[[Any], tuple[Any, Any]]:
    from models.encoders.stain.macenko import Macenko

    return Macenko(PUBLISHED if target == PUBLISHED_DEFAULT else StainReference.parse(target))


MODEL = _ExaonePath(_SPEC, VitShape(768, 12, 12, 3072, 16, resampling="dino"))
