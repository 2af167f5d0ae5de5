"""The public Vision Transformers of pathology, and one of ImageNet to compare them with: what each card declares.

Every number is its publisher's: shapes from the arguments that timm's networks are made with (``mlp_ratio`` times width
is what ``SwiGLUPacked`` makes, gate and gated together), pre-processing from the snippet of the model's card, spacings
and sizes of patches from card or paper. Revisions and digests are those of the hub that published results name.
"""

from dataclasses import replace
from typing import Final

from models.encoders.protocol import EncoderSpec, Hub, Licence, Precision, Triple
from models.encoders.vit.model import VitModel
from models.encoders.vit.shape import VitShape

_IMAGENET_MEAN: Final[Triple] = (0.485, 0.456, 0.406)
_IMAGENET_STD: Final[Triple] = (0.229, 0.224, 0.225)

# DINOv2 trains in fp16, and the cards of what came of it advise it. Of the others no card says a word.
_HALF: Final[tuple[Precision, ...]] = ("fp32", "bf16", "fp16")
_NO_WORD: Final[tuple[Precision, ...]] = ("fp32", "bf16")

_CC_BY_NC_ND: Final = Licence("CC-BY-NC-ND-4.0", "https://creativecommons.org/licenses/by-nc-nd/4.0/", ask=True)

_SMALL: Final = VitShape(width=384, depth=12, heads=6, hidden=1536, patch_px=16)
_BASE: Final = VitShape(width=768, depth=12, heads=12, hidden=3072, patch_px=16)
_LARGE: Final = VitShape(width=1024, depth=24, heads=16, hidden=4096, patch_px=16)
# vit_huge_patch14_224 with mlp_ratio 5.3375.
_HUGE: Final = VitShape(
    width=1280, depth=32, heads=16, hidden=3416, patch_px=14, mlp="swiglu", layer_scale=True, pooling="cls+mean"
)
# vit_giant_patch14_dinov2: mlp_ratio 5.33334.
_GIANT: Final = VitShape(width=1536, depth=40, heads=24, hidden=4096, patch_px=14, mlp="swiglu", layer_scale=True)


def _spec(name: str, family: str, shape: VitShape, licence: Licence) -> EncoderSpec:
    """Return what most of them have in common, under no source."""
    return EncoderSpec(
        name=name,
        family=family,
        dimension=shape.dimension,
        input_px=shape.image_px,
        spacings_um=(0.5,),
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        interpolation="bicubic",
        extra="torch",
        licence=licence,
        source="",
        revision="",
        weights_sha256="",
        preprocessing_version=1,
        patches_px=(224,),
        precisions=_HALF,
    )


def _on_hub(spec: EncoderSpec, repository: str, revision: str, file: str) -> EncoderSpec:
    source = f"https://huggingface.co/{repository}"
    return replace(spec, source=source, revision=revision, hub=Hub(repository, (file,)))


def _terms(repository: str) -> Licence:
    """Apache-2.0, and terms that have to be agreed to on the hub."""
    return Licence(f"Apache-2.0 and the terms of {repository}", f"https://huggingface.co/{repository}", ask=True)


# Filiot et al., doi 10.1101/2023.07.21.23292757: iBOT on TCGA at 0.5 um/px, 224 px. ViTModel of transformers, whose
# LayerNorms have eps 1e-12 and whose image processor resizes bilinearly; its pooler is not used (the card takes the
# class token of the last hidden state).
PHIKON: Final = VitModel(
    replace(
        _on_hub(
            _spec(
                "phikon",
                "ViT-B/16, iBOT",
                _BASE,
                Licence(
                    "Owkin non-commercial licence",
                    "https://github.com/owkin/HistoSSLscaling/blob/main/LICENSE.txt",
                    ask=True,
                ),
            ),
            "owkin/phikon",
            "057cc0295895c2df3dd7681a89680da6015cbefe",
            "model.safetensors",
        ),
        interpolation="bilinear",
        precisions=_NO_WORD,
    ),
    replace(_BASE, eps=1e-12),
    heads=("pooler.",),
)

# Vorontsov et al., doi 10.1038/s41591-024-03141-0. The card joins class token and mean of the patches: 2 x 1280.
VIRCHOW: Final = VitModel(
    _on_hub(
        _spec("virchow", "ViT-H/14 SwiGLU, DINOv2", _HUGE, _terms("paige-ai/Virchow")),
        "paige-ai/Virchow",
        "19eebc84ae33e79f1b2d866e6ff90ae50e522f9a",
        "model.safetensors",
    ),
    _HUGE,
)

# Zimmermann et al., arXiv:2408.00738: four registers, which the card leaves out of the mean; 5, 10, 20 and 40 x.
VIRCHOW2: Final = VitModel(
    replace(
        _on_hub(
            _spec("virchow2", "ViT-H/14 SwiGLU with 4 registers, DINOv2", _HUGE, _CC_BY_NC_ND),
            "paige-ai/Virchow2",
            "3158645804b69e3f3bc4439d4116edddf0840a72",
            "model.safetensors",
        ),
        spacings_um=(0.5, 0.25, 1.0, 2.0),
        weights_sha256="8d6cea947eb2418c3b0dff48cfb9b238e47744ab0dfca21b2b0637b140769b4b",
    ),
    replace(_HUGE, registers=4, placed=5),
)

# Xu et al., doi 10.1038/s41586-024-07441-w: the encoder of patches, of 256 px at 0.5 um/px. Patches of 16 px, not 14.
GIGAPATH: Final = VitModel(
    replace(
        _on_hub(
            _spec("gigapath", "ViT-g/16 SwiGLU, DINOv2", _GIANT, _terms("prov-gigapath/prov-gigapath")),
            "prov-gigapath/prov-gigapath",
            "eba85dd46097c3eedfcc2a3a9a930baecb6bcc19",
            "pytorch_model.bin",
        ),
        resize_px=256,
        patches_px=(256,),
    ),
    replace(_GIANT, patch_px=16),
)

# Saillard et al., github.com/bioptimus/releases: vit_giant_patch14_reg4_dinov2, "224x224, extracted at 0.5 um/px".
H_OPTIMUS_0: Final = VitModel(
    replace(
        _on_hub(
            _spec("h-optimus-0", "ViT-g/14 SwiGLU with 4 registers, DINOv2", _GIANT, _terms("bioptimus/H-optimus-0")),
            "bioptimus/H-optimus-0",
            "b145cc1e6c6b30d3251aa8b1f844e6974188a743",
            "pytorch_model.bin",
        ),
        mean=(0.707223, 0.578729, 0.703617),
        std=(0.211883, 0.230117, 0.177517),
    ),
    replace(_GIANT, registers=4, placed=0),
)

# Chen et al., doi 10.1038/s41591-024-02857-3: patches of 256 and 512 px at 0.5 um/px; the card's Resize(224) is
# torchvision's, bilinear.
UNI: Final = VitModel(
    replace(
        _on_hub(
            _spec("uni", "ViT-L/16, DINOv2", _LARGE, _CC_BY_NC_ND),
            "MahmoodLab/UNI",
            "b55a5ec6cade1a39edfe6534189a9b8ca7a022f0",
            "pytorch_model.bin",
        ),
        weights_sha256="56ef09b44a25dc5c7eedc55551b3d47bcd17659a7a33837cf9abc9ec4e2ffb40",
        interpolation="bilinear",
        patches_px=(256, 224, 512),
    ),
    replace(_LARGE, layer_scale=True),
)

# The same authors, January 2025: vit_giant_patch14_224 with depth 24, mlp_ratio 5.33334, 8 registers, no_embed_class.
UNI2_H: Final = VitModel(
    replace(
        UNI.spec,
        name="uni2-h",
        family="ViT-H/14 SwiGLU with 8 registers, DINOv2",
        dimension=1536,
        source="https://huggingface.co/MahmoodLab/UNI2-h",
        revision="d517a8dd47902dd7c308b3c36f63bce47e7b9a43",
        weights_sha256="6e077eda234bebc595868d918d3458d9dd32a050199b0ff04443b2f46a0a3b1e",
        hub=Hub("MahmoodLab/UNI2-h", ("pytorch_model.bin",)),
    ),
    replace(_GIANT, depth=24, registers=8, placed=0),
)

# Kang et al., arXiv:2212.04690: DINO on 512 px patches at 20 and 40 x; weights on the releases of their repository.
LUNIT_DINO_S16: Final = VitModel(
    replace(
        _spec(
            "lunit-dino-s16",
            "ViT-S/16, DINO",
            _SMALL,
            Licence(
                "Lunit Public License (non-commercial)",
                "https://github.com/lunit-io/benchmark-ssl-pathology/blob/main/LICENSE",
                ask=True,
            ),
        ),
        spacings_um=(0.5, 0.25),
        mean=(0.70322989, 0.53606487, 0.66096631),
        std=(0.21716536, 0.26081574, 0.20723464),
        source=(
            "https://github.com/lunit-io/benchmark-ssl-pathology/releases/download/pretrained-weights/"
            "dino_vit_small_patch16_ep200.torch"
        ),
        revision="pretrained-weights",
        patches_px=(224, 512),
        precisions=_NO_WORD,
    ),
    _SMALL,
)
LUNIT_DINO_S8: Final = VitModel(
    replace(
        LUNIT_DINO_S16.spec,
        name="lunit-dino-s8",
        family="ViT-S/8, DINO",
        source=LUNIT_DINO_S16.spec.source.replace("patch16", "patch8"),
    ),
    replace(_SMALL, patch_px=8),
)

# Steiner et al., arXiv:2106.10270, as timm publishes it: the class token after the last norm, without the classifier;
# crop_pct 0.9 is a resize to 248.
VIT_L16_IMAGENET: Final = VitModel(
    replace(
        _on_hub(
            _spec(
                "vit-l16-imagenet",
                "ViT-L/16, supervised on ImageNet-21k and 1k; the class token",
                _LARGE,
                Licence("Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
            ),
            "timm/vit_large_patch16_224.augreg_in21k_ft_in1k",
            "0930ab3308b84cb2ae091a4a80703c459412a4c7",
            "model.safetensors",
        ),
        weights_sha256="109390825a5bada2864f1b74445a63d29c51ef079c349644bc98996c452f6cf1",
        spacings_um=(),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        resize_px=248,
        patches_px=(),
        precisions=_NO_WORD,
    ),
    _LARGE,
    heads=("head.",),
)
