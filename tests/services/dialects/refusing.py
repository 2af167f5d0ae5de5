"""Archives that take images and reports, and nothing that they do not know: how they say so differs."""

from typing_extensions import override

from tests.services.dialects.archive import Stored
from tests.services.dialects.products import Dcm4chee, HealthImaging
from tests.services.dialects.server import Refusal

_KNOWN = {"SM", "SR"}


class RefusesByReason(HealthImaging):
    """Lists what it does not store with FailureReason 0122H, SOP class not supported (PS3.18 table 10.5.3-2)."""

    name = "refuses by reason"
    needs_token = False

    @override
    def refused(self, sent: Stored) -> int | None:
        return None if sent.dataset.Modality in _KNOWN else 0x0122


class RefusesByStatus(Dcm4chee):
    """Answers the whole request with 415."""

    name = "refuses by status"

    @override
    def refused(self, sent: Stored) -> int | None:
        if sent.dataset.Modality in _KNOWN:
            return None
        raise Refusal(415)


class Discards(Dcm4chee):
    """Says that it has stored everything."""

    name = "discards"

    @override
    def kept(self, sent: Stored) -> bool:
        return sent.dataset.Modality in _KNOWN
