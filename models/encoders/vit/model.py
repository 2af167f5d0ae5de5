"""A declared Vision Transformer: its spec, its shape, and how its published weights become an encoder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models.domain.errors import WeightsInvalid
from models.encoders.options import Computing, settle_options
from models.encoders.protocol import Encoder, EncoderSpec
from models.encoders.pytorch.checkpoint import load_strictly, read_checkpoint
from models.encoders.pytorch.encoder import TorchEncoder, require_torch
from models.encoders.vit.names import to_ours
from models.encoders.vit.shape import VitShape
from models.encoders.weights.published import find_weights

# The safest form first: a snapshot often holds the same weights in several.
_FORMS: Final = (".safetensors", ".bin", ".pth", ".pt", ".torch", ".ckpt")


@dataclass(frozen=True, slots=True)
class VitModel:
    """A `Model` whose network is a Vision Transformer.

    Parameters
    ----------
    spec : EncoderSpec
    shape : VitShape
    inside : tuple of str
        Keys that the state dict may lie under in a checkpoint, outermost first; those that are not there are skipped.
    heads : tuple of str
        How the keys begin of what the published weights have beside the features.
    """

    spec: EncoderSpec
    shape: VitShape
    inside: tuple[str, ...] = ("state_dict",)
    heads: tuple[str, ...] = ()

    def settle(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """Return the options that every network has."""
        return settle_options(self.spec, options, Computing.checks(self.spec))

    def weights(self, given: Path | None, store: Path | None = None) -> Path | None:
        """Return the given weights, or the fetched ones."""
        return find_weights(self.spec, given, store)

    def load(self, weights: Path | None, options: Mapping[str, str], device: str = "auto") -> Encoder:
        """Load the network strictly; needs the extra ``torch``."""
        computing = Computing.of(self.spec, self.settle(options))
        return TorchEncoder(self.spec, self.network(weights), computing, device)

    def network(self, weights: Path | None) -> Any:
        """Return the network with these weights, float32, on the CPU; they are held once.

        Raises
        ------
        ExtraMissing
        WeightsInvalid
            There are none, they cannot be read, or they are another model's; names the keys.
        """
        torch, name = require_torch(self.spec.name), self.spec.name
        if weights is None:
            raise WeightsInvalid(f"The encoder {name} needs weights.")
        from models.encoders.vit.network import VisionTransformer

        state = read_checkpoint(checkpoint_file(weights))
        for key in self.inside:
            inner = state.get(key)
            state = inner if isinstance(inner, Mapping) else state
        with torch.device("meta"):
            network = VisionTransformer(self.shape)
        load_strictly(network, to_ours(state, name, self.heads), name)
        return network


def checkpoint_file(weights: Path) -> Path:
    """Return the file that holds the weights: the one given, or the one of its kind in a folder.

    Raises
    ------
    WeightsInvalid
        The folder holds none, or several.
    """
    if not weights.is_dir():
        return weights
    for form in _FORMS:
        found = sorted(path for path in weights.iterdir() if path.suffix == form)
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(path.name for path in found)
            raise WeightsInvalid(f"The folder {weights.name} holds several weights ({names}): name one of them.")
    raise WeightsInvalid(f"The folder {weights.name} holds no weights ({', '.join(_FORMS)}).")
