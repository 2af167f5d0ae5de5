"""Published weights: where they lie on this machine, and how to get them."""

from pathlib import Path

from models.domain.errors import WeightsInvalid
from models.encoders.protocol import EncoderSpec
from models.encoders.weights.store import WeightsShelf


def find_weights(spec: EncoderSpec, given: Path | None, store: Path | None) -> Path:
    """Return the given weights, or those that were fetched: a file or a folder.

    Raises
    ------
    WeightsInvalid
        There are none, with how to get them, or the fetched ones are not whole.
    """
    if given is not None:
        if not given.exists():
            raise WeightsInvalid(f"The weights {given.name} are not there: check --weights.")
        return given
    if spec.hub is not None and store is not None:
        shelf = WeightsShelf(spec, store)
        lock = shelf.read()
        if lock is not None:
            return shelf.path(lock.revision)
    how = f"slidewire encoders fetch {spec.name}" if spec.hub is not None else f"get them from {spec.source}"
    own = "or give a file or folder with --weights" if spec.hub is not None else "and name the file with --weights"
    raise WeightsInvalid(f"{spec.name} needs weights, and there are none here: {how}, {own}.")


def check_fetched(spec: EncoderSpec, weights: Path | None, store: Path, digest: str) -> None:
    """Refuse fetched weights that are no longer as they came; given ones are not judged here.

    Raises
    ------
    WeightsInvalid
    """
    shelf = WeightsShelf(spec, store)
    if weights is None or not weights.absolute().is_relative_to(shelf.folder.absolute()):
        return
    lock = shelf.read()
    if lock is not None and weights.absolute() == shelf.path(lock.revision).absolute() and lock.sha256 != digest:
        raise WeightsInvalid(
            f"The fetched weights of {spec.name} are damaged: their SHA-256 begins with {digest[:12]}, not "
            f"{lock.sha256[:12]}. Fetch them again: slidewire encoders fetch {spec.name}"
        )
