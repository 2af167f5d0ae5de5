"""ctranspath: CTransPath (Wang et al., Medical Image Analysis 81, 2022), a Swin-T whose first layers are convolutions.

Pre-processing as in the authors' ``get_features_CTransPath.py``: to 224 px, ImageNet's mean and standard deviation.
Their checkpoint (``{'model': ...}``) was written with a fork of timm 0.5.4; here its keys are brought to the names that
timm has had since 0.9, so that neither the fork nor its age is needed. What changes is where a name says a picture of
tokens is halved: at the end of one stage then, at the beginning of the next now. The numbers do not.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from models.encoders.protocol import EncoderSpec, Licence
from models.encoders.timm_networks.model import TimmModel, require_timm

# Made from the shape alone, and no longer part of a checkpoint.
_DERIVED: Final = ("relative_position_index", "attn_mask")
_HALVING: Final = re.compile(r"layers\.(\d+)\.downsample\.")


class CTransPath(TimmModel):
    """A `TimmModel` with another stem, and with the names of an older timm."""

    __slots__ = ()

    def build(self) -> Any:
        """Return timm's Swin-T with the convolutional stem."""
        timm = require_timm(self.spec.name)
        from models.encoders.timm_networks.conv_stem import ConvStem

        def stem(**given: Any) -> ConvStem:
            return ConvStem(given["embed_dim"], self.spec.input_px, given["norm_layer"])

        return timm.create_model(self.architecture, pretrained=False, num_classes=0, embed_layer=stem)

    def features(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the state dict under today's names, without what is made from the shape."""
        return {
            _HALVING.sub(lambda found: f"layers.{int(found[1]) + 1}.downsample.", key): value
            for key, value in state.items()
            if not key.endswith(_DERIVED)
        }


MODEL = CTransPath(
    EncoderSpec(
        name="ctranspath",
        family="Swin-T with a convolutional stem, average of the last stage",
        dimension=768,
        input_px=224,
        spacings_um=(0.5,),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        interpolation="bilinear",
        extra="timm",
        licence=Licence("GPL-3.0, non-commercial academic use", "https://github.com/Xiyue-Wang/TransPath", ask=True),
        source="https://github.com/Xiyue-Wang/TransPath (ctranspath.pth, linked there)",
        revision="main",
        weights_sha256="",
        preprocessing_version=1,
        precisions=("fp32", "bf16", "fp16"),
        strict_spacing=False,
    ),
    architecture="swin_tiny_patch4_window7_224",
)
