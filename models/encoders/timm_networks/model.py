"""An encoder whose network is one of timm's; its spec is known without timm, the network is not."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from models.domain.errors import ExtraMissing, WeightsInvalid
from models.encoders.options import Computing, settle_options
from models.encoders.protocol import Encoder, EncoderSpec
from models.encoders.pytorch.checkpoint import load_strictly, read_checkpoint
from models.encoders.pytorch.encoder import TorchEncoder
from models.encoders.vit.model import checkpoint_file
from models.encoders.weights.published import find_weights

_INSIDE = ("model", "state_dict")


@dataclass(frozen=True, slots=True)
class TimmModel:
    """A `Model` of an architecture that timm builds, read at its last pooling (``num_classes=0``).

    Parameters
    ----------
    spec : EncoderSpec
    architecture : str
        timm's name of it, without the tag of its weights.
    heads : tuple of str
        Layers behind the features, whose weights a file may hold: they are left out. Every other key must fit.
    """

    spec: EncoderSpec
    architecture: str
    heads: tuple[str, ...] = ()

    def settle(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """Return the options that every network has."""
        return settle_options(self.spec, options, Computing.checks(self.spec))

    def weights(self, given: Path | None, store: Path | None = None) -> Path | None:
        """Return the given weights, or the fetched ones."""
        return find_weights(self.spec, given, store)

    def load(self, weights: Path | None, options: Mapping[str, str], device: str = "auto") -> Encoder:
        """Load the network strictly; needs the extra ``timm``."""
        computing = Computing.of(self.spec, self.settle(options))
        if weights is None:
            raise WeightsInvalid(f"The encoder {self.spec.name} needs weights.")
        network = self.build()
        load_strictly(network, self.features(read_state(weights)), self.spec.name)
        return TorchEncoder(self.spec, network, computing, device)

    def build(self) -> Any:
        """Return the network with timm's initial weights."""
        return require_timm(self.spec.name).create_model(self.architecture, pretrained=False, num_classes=0)

    def features(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a state dict without what lies behind the features."""
        behind = {f"{head}.{kind}" for head in self.heads for kind in ("weight", "bias")}
        return {key: value for key, value in state.items() if key not in behind}


def read_state(weights: Path) -> Mapping[str, Any]:
    """Return the state dict of a file, or of the one in a folder, wherever its training put it.

    Raises
    ------
    WeightsInvalid
    """
    state = read_checkpoint(checkpoint_file(weights))
    for key in _INSIDE:
        inner = state.get(key)
        state = inner if isinstance(inner, Mapping) else state
    return state


def require_timm(encoder: str) -> ModuleType:
    """Import timm, or say how to install it; it imports PyTorch and torchvision."""
    try:
        import timm
    except (ImportError, RuntimeError) as exc:  # RuntimeError: a torchvision that was built for another PyTorch
        raise ExtraMissing(
            f"The encoder {encoder} needs the extra 'timm', with a torchvision made for this PyTorch: "
            "pip install 'slidewire[timm]'."
        ) from exc
    module: ModuleType = timm
    return module
