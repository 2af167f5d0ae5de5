"""resnet50-imagenet: the ResNet-50 that pathology's models are compared with.

He et al., arXiv:1512.03385, with torchvision's first ImageNet weights (IMAGENET1K_V1) as timm publishes them, and the
pre-processing they were evaluated with. The table in EXAONEPath's card names neither weights nor layer; this is the
usual choice: 2048 numbers, the average of the last stage. (Some papers on pathology take the 1024 of the stage before.)
"""

from models.encoders.protocol import EncoderSpec, Hub, Licence
from models.encoders.timm_networks.model import TimmModel

MODEL = TimmModel(
    EncoderSpec(
        name="resnet50-imagenet",
        family="ResNet-50, average of the last stage",
        dimension=2048,
        input_px=224,
        spacings_um=(),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        interpolation="bilinear",
        extra="timm",
        licence=Licence("BSD-3-Clause", "https://github.com/pytorch/vision/blob/main/LICENSE"),
        source="https://huggingface.co/timm/resnet50.tv_in1k",
        revision="main",
        weights_sha256="",
        preprocessing_version=1,
        resize_px=256,
        precisions=("fp32", "bf16", "fp16"),
        hub=Hub("timm/resnet50.tv_in1k", ("model.safetensors",)),
    ),
    architecture="resnet50",
    heads=("fc",),
)
