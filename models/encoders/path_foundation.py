"""path-foundation: Google's Path Foundation, a SavedModel whose weights are gated.

Model card: https://developers.google.com/health-ai-developer-foundations/path-foundation/model-card: a ViT-S/16 for
224 px patches of haematoxylin and eosin at about 0.5, 1 and 2 um/px (20x, 10x, 5x); the card's snippet divides RGB by
255 and calls the signature ``serving_default``. Patches of another size, if they are asked for, are resized before as
Google's server does, on whole numbers: by area, or enlarged, bicubic. Its paper: Lai et al., arXiv:2310.13259.
"""

from collections.abc import Mapping
from pathlib import Path

from models.domain.errors import WeightsInvalid
from models.encoders.options import settle_options
from models.encoders.protocol import Encoder, EncoderSpec, Hub, Licence
from models.encoders.tensorflow_runtime.encoder import checks, computing, load_encoder
from models.encoders.weights.published import find_weights


class _Model:
    spec = EncoderSpec(
        name="path-foundation",
        family="ViT-S/16, self-supervised, TensorFlow SavedModel",
        dimension=384,
        input_px=224,
        spacings_um=(0.5, 1.0, 2.0),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        interpolation="area",
        extra="tensorflow",
        licence=Licence(
            "Health AI Developer Foundations",
            "https://developers.google.com/health-ai-developer-foundations/terms",
            ask=True,
        ),
        source="https://huggingface.co/google/path-foundation",
        revision="main",
        weights_sha256="",  # the weights are gated, and their digest is published nowhere
        preprocessing_version=1,
        patches_px=(224,),
        strict_spacing=False,
        hub=Hub("google/path-foundation", ("*.pb", "variables/*")),
    )

    def settle(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """Return the options that a TensorFlow encoder has."""
        return settle_options(self.spec, options, checks(self.spec))

    def weights(self, given: Path | None, store: Path | None = None) -> Path | None:
        """Return the given folder, or the fetched one."""
        return find_weights(self.spec, given, store)

    def load(self, weights: Path | None, options: Mapping[str, str], device: str = "auto") -> Encoder:
        """Load the SavedModel; needs the extra ``tensorflow``."""
        way = computing(self.spec, self.settle(options))
        if weights is None:
            raise WeightsInvalid(f"The encoder {self.spec.name} needs weights.")
        return load_encoder(self.spec, weights, way, device)


MODEL = _Model()
