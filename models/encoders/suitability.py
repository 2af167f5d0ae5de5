"""Whether an encoder, its weights and the patches it is to embed belong together; asked before anything is done."""

from collections.abc import Collection

from models.domain.errors import LicenceNotAccepted, PatchesUnsuited, WeightsInvalid
from models.domain.patch import PatchGrid
from models.encoders.options import UNPUBLISHED, UNSUITED
from models.encoders.protocol import EncoderSpec

_NEAR = 0.2  # scanners say 0.2425 for what is sold as 0.25, and 0.5 um/px slides have 0.46 to 0.55

Options = Collection[tuple[str, str]]


def check_licence(spec: EncoderSpec, accepted: Collection[str]) -> None:
    """Refuse a model whose licence asks for consent that nobody gave.

    Raises
    ------
    LicenceNotAccepted
    """
    licence = spec.licence
    if licence.ask and licence.name not in accepted:
        raise LicenceNotAccepted(
            f"{spec.name} comes under {licence.name!r} ({licence.url}): if you accept it, "
            f"write accepted_licences = [{licence.name!r}] into slidewire.toml."
        )


def check_digest(spec: EncoderSpec, digest: str, options: Options) -> tuple[str, ...]:
    """Refuse weights that are not the published ones, unless asked for; return what is to be noted.

    Raises
    ------
    WeightsInvalid
    """
    if spec.remote:
        return ("the model is remote: its weights are not known",)
    if not spec.weights_sha256 or digest == spec.weights_sha256:
        return ()
    if (UNPUBLISHED, "unpublished") not in options:
        raise WeightsInvalid(
            f"The weights are not the published ones of {spec.name}: their SHA-256 begins with {digest[:12]}, not "
            f"{spec.weights_sha256[:12]}. Fetch them again; if they are your own, say "
            f"--encoder-option {UNPUBLISHED}=unpublished."
        )
    return ("the weights are not the published ones: their digest differs",)


def check_patches(spec: EncoderSpec, grid: PatchGrid, options: Options) -> tuple[str, ...]:
    """Refuse patches that the encoder is not meant for, unless asked for; return what is to be noted.

    Raises
    ------
    PatchesUnsuited
        Another size, or another spacing than any it was trained at.
    """
    found, strict = [], False
    if spec.patches_px and grid.patch_px not in spec.patches_px:
        sizes = " or ".join(f"{size}" for size in spec.patches_px)
        found.append(f"{spec.name} is meant for patches of {sizes} px, not {grid.patch_px}")
        strict = True
    spacings = " or ".join(f"{one:g}" for one in spec.spacings_um)
    if spec.spacings_um and grid.spacing_um is None:
        found.append(f"{spec.name} is meant for {spacings} um/px, and the spacing is unknown")
        strict |= spec.strict_spacing
    elif spec.spacings_um and not any(_near(grid.spacing_um, one) for one in spec.spacings_um):
        found.append(f"{spec.name} is meant for {spacings} um/px, not {max(grid.spacing_um or ()):.3g}")
        strict |= spec.strict_spacing
    if strict and (UNSUITED, "allow") not in options:
        raise PatchesUnsuited(
            f"{'; '.join(found)}. Leave size and spacing to the encoder, or say --encoder-option {UNSUITED}=allow."
        )
    return tuple(found)


def _near(spacing_um: tuple[float, float] | None, meant_um: float) -> bool:
    return spacing_um is not None and all(abs(one / meant_um - 1) <= _NEAR for one in spacing_um)
