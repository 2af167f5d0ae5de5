"""Models without weights of their own: a function, a server, a formula."""

from collections.abc import Mapping
from pathlib import Path

from models.domain.errors import WeightsInvalid
from models.encoders.options import settle_options
from models.encoders.protocol import EncoderSpec


class Weightless:
    """What they have in common: the options that every encoder has, and nothing to be given.

    Attributes
    ----------
    spec : EncoderSpec
    """

    __slots__ = ()
    spec: EncoderSpec

    def settle(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """Return the options that every encoder has."""
        return settle_options(self.spec, options, {})

    def weights(self, given: Path | None, store: Path | None = None) -> Path | None:
        """Return None.

        Raises
        ------
        WeightsInvalid
            Some were given.
        """
        del store
        if given is not None:
            raise WeightsInvalid(f"The encoder {self.spec.name} has no weights: leave --weights out.")
        return given
