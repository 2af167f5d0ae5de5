"""Google Healthcare API, dcm4chee-arc, AWS HealthImaging and Azure's dicom-server, as they are documented.

Sources: Google's and Microsoft's conformance statements, AWS's developer guide, and the published source of dcm4chee
(`WadoRS.java`, `ObjectType.java`). None of this was checked against the products.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from typing_extensions import override

from tests.services.dialects.accept import Range
from tests.services.dialects.archive import Stored
from tests.services.dialects.server import Dialect, Refusal, wanted_syntax
from tests.services.hostile import Answer, Asked

_OCTETS, _DICOM = "application/octet-stream", "application/dicom"
_NATIVE = {ExplicitVRLittleEndian, ImplicitVRLittleEndian}


class Google(Dialect):
    """Google Healthcare API.

    Every request carries a token. Frames come in multipart or, for one frame, in a single part. An instance that is
    there is refused with 409. ``/metadata`` names the transfer syntax, and so does QIDO.
    """

    name = "google"
    needs_token = True
    most_found: ClassVar[int] = 5000

    @override
    def frame_form(self, accepted: Sequence[Range], stored: Stored, count: int) -> tuple[str, bool]:
        for entry in accepted:
            kind = entry.media if entry.single else entry.of
            syntax = wanted_syntax(entry, stored)
            if (
                kind == _OCTETS
                and syntax in {stored.syntax, ExplicitVRLittleEndian}
                and (not entry.single or count == 1)
            ):
                return syntax, entry.single
        raise Refusal(406)

    @override
    def instance_form(self, accepted: Sequence[Range], stored: Stored) -> tuple[str, bool]:
        for entry in accepted:
            kind = entry.media if entry.single else entry.of
            syntax = wanted_syntax(entry, stored)
            if kind == _DICOM and syntax in {stored.syntax, ExplicitVRLittleEndian}:
                return syntax, entry.single
        raise Refusal(406)

    @override
    def described(self, found: dict[str, Any]) -> dict[str, Any]:
        syntax = self.archive.find()[0].syntax if found["00080060"]["Value"] == ["SM"] else ExplicitVRLittleEndian
        return {**found, "00083002": {"vr": "UI", "Value": [syntax]}}

    @override
    def existing(self, held: Stored, sent: Stored) -> int | None:
        del held, sent
        return 0x0111  # duplicate SOP instance


class Dcm4chee(Dialect):
    """dcm4chee-arc-light.

    Media types are compared without their parameters, so whatever is asked for as application/octet-stream comes
    decompressed; what is stored comes as the media type of its transfer syntax, which is 406 for any other. A single
    part is 406. Frames beyond the last are left out, with 206. Whole instances asked for with ``*`` come in Implicit
    VR. Bulk Data URIs name the host that the archive itself runs on. Parts may be mislabelled (its issue 3443). An
    object that is there is kept, and the answer is yes (overwrite policy NEVER).
    """

    name = "dcm4chee"

    @override
    def frame_form(self, accepted: Sequence[Range], stored: Stored, count: int) -> tuple[str, bool]:
        del count
        for entry in accepted:
            if entry.media in {"*/*", "multipart/*"} or (not entry.single and entry.of in {"", "*/*"}):
                return stored.syntax, False
            if entry.of in {"image/jpeg", "image/*"}:
                return stored.syntax, False
            if entry.of == _OCTETS:
                return ExplicitVRLittleEndian, False
        raise Refusal(406)

    @override
    def part_type(self, stored: Stored, syntax: str) -> str:
        return "image/jp2;transfer-syntax=1.2.840.10008.1.2.4.90" if syntax == stored.syntax else _OCTETS

    @override
    def place(self, stored: Stored, number: int) -> Mapping[str, str]:
        study, series, instance = stored.uids
        return {"Content-Location": f"{self.base}/studies/{study}/series/{series}/instances/{instance}/frames/{number}"}

    @override
    def frames_there(self, stored: Stored, numbers: Sequence[int]) -> list[int]:
        there = [number for number in numbers if number <= len(stored.frames)]
        if not there:
            raise Refusal(404)
        return there

    @override
    def instance_form(self, accepted: Sequence[Range], stored: Stored) -> tuple[str, bool]:
        syntaxes = [entry.syntax or ExplicitVRLittleEndian for entry in accepted if entry.of == _DICOM]
        if not syntaxes:
            raise Refusal(406)
        if stored.syntax in syntaxes:
            return stored.syntax, False
        return str(ExplicitVRLittleEndian if ExplicitVRLittleEndian in syntaxes else ImplicitVRLittleEndian), False

    @override
    def bulk_base(self) -> str:
        return "http://archive.internal:8080/dcm4chee-arc/aets/DCM4CHEE/rs"

    @override
    def existing(self, held: Stored, sent: Stored) -> int | None:
        del held, sent


class HealthImaging(Dialect):
    """AWS HealthImaging, by an OIDC bearer token.

    Frames in multipart only, as stored or in Explicit VR Little Endian; a frame number is named once. Requests are
    throttled: here every third for frames is refused at first. How many frames one request may name is not documented;
    40 here, so that more has to be split. A second object under a UID goes where DICOMweb does not see it.
    """

    name = "aws"
    needs_token = True
    most_frames: ClassVar[int | None] = 40

    def answer(self, asked: Asked) -> Answer:
        """Throttle, then answer."""
        if "/frames/" in asked.path:
            self._requests = getattr(self, "_requests", 0) + 1
            if self._requests % 3 == 1:
                return Refusal(429, {"Retry-After": "0"}).answer
        return super().answer(asked)

    @override
    def refuse_frames(self, stored: Stored, numbers: Sequence[int]) -> None:
        super().refuse_frames(stored, numbers)
        if len(set(numbers)) != len(numbers):
            raise Refusal(400)

    @override
    def frame_form(self, accepted: Sequence[Range], stored: Stored, count: int) -> tuple[str, bool]:
        del count
        for entry in accepted:
            syntax = wanted_syntax(entry, stored)
            if entry.of == _OCTETS and syntax in {stored.syntax, ExplicitVRLittleEndian}:
                return syntax, False
        raise Refusal(406)

    @override
    def instance_form(self, accepted: Sequence[Range], stored: Stored) -> tuple[str, bool]:
        for entry in accepted:
            kind = entry.media if entry.single else entry.of
            if kind == _DICOM:
                return wanted_syntax(entry, stored), entry.single
        raise Refusal(406)

    @override
    def existing(self, held: Stored, sent: Stored) -> int | None:
        del held, sent


class Azure(Dialect):
    """Azure's DICOM service and the dicom-server it grew from.

    The Accept headers of its conformance statement and no others; a single part for exactly one frame. ``/metadata``
    leave out OB, OD, OF, OL, OV, OW and UN. An object that is there is refused with FailureReason 45070.
    """

    name = "azure"
    needs_token = True
    most_found: ClassVar[int] = 200
    dropped: ClassVar[set[str]] = {"OB", "OD", "OF", "OL", "OV", "OW", "UN"}

    @override
    def frame_form(self, accepted: Sequence[Range], stored: Stored, count: int) -> tuple[str, bool]:
        for entry in accepted:
            syntax = wanted_syntax(entry, stored)
            if entry.of == _OCTETS and syntax in {stored.syntax, ExplicitVRLittleEndian}:
                return syntax, False
            if entry.media == _OCTETS and entry.syntax == "*" and count == 1:
                return stored.syntax, True
        raise Refusal(406)

    @override
    def part_type(self, stored: Stored, syntax: str) -> str:
        del stored
        return f"{_OCTETS}; transfer-syntax={syntax}"

    @override
    def instance_form(self, accepted: Sequence[Range], stored: Stored) -> tuple[str, bool]:
        for entry in accepted:
            kind = entry.media if entry.single else entry.of
            if kind == _DICOM:
                return wanted_syntax(entry, stored), entry.single
        raise Refusal(406)

    @override
    def described(self, found: dict[str, Any]) -> dict[str, Any]:
        kept = {tag: element for tag, element in found.items() if element["vr"] not in self.dropped}
        for element in kept.values():
            if element["vr"] == "SQ":
                element["Value"] = [self.described(part) for part in element.get("Value", [])]
        return kept

    @override
    def existing(self, held: Stored, sent: Stored) -> int | None:
        del held, sent
        return 45070


PRODUCTS: dict[str, type[Dialect]] = {one.name: one for one in (Google, Dcm4chee, HealthImaging, Azure)}
