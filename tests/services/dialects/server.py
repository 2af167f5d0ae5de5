"""A small DICOMweb server in this process, and the rules by which products differ from it.

A dialect refuses what its product refuses, as far as that is documented or in its published source; none was checked
against the product itself. What is asked is kept, for tests to look at (`HostileServer.asked`).
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from pydicom.uid import ExplicitVRLittleEndian

from tests.services.dialects.accept import Part, Range, multipart, ranges
from tests.services.dialects.archive import Archive, Stored
from tests.services.hostile import Answer, Asked

TOKEN = "dialect-token-58211"
JSON = {"Content-Type": "application/dicom+json"}
_UID = "([^/]+)"
_STUDY, _SERIES = f"/studies/{_UID}", f"/studies/{_UID}/series/{_UID}"
_INSTANCE = f"{_SERIES}/instances/{_UID}"


class Refusal(Exception):
    """An answer given instead of what was asked for."""

    def __init__(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.answer = Answer(status, b'{"message": "refused"}', {"Content-Type": "application/json", **(headers or {})})


def item(tag_values: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """Return a DICOM JSON item of one value an attribute."""
    return {tag: {"vr": vr, "Value": [value]} for tag, (vr, value) in tag_values.items()}


class Dialect:
    """What products have in common; each overrides what it does in its own way.

    Parameters
    ----------
    folder : Path
        Of DICOM files to serve.

    Attributes
    ----------
    needs_token : bool
        Every request carries the bearer token `TOKEN`, or is answered 401.
    most_frames : int or None
        In one request; more are refused with 400.
    most_found : int
        The largest limit of a search; one that asks for more is refused with 400.
    """

    name: ClassVar[str]
    needs_token: ClassVar[bool] = False
    most_frames: ClassVar[int | None] = None
    most_found: ClassVar[int] = 10_000

    def __init__(self, folder: Path) -> None:
        self.archive = Archive(folder)
        self.base = ""  # of the service, once it is known

    def answer(self, asked: Asked) -> Answer:
        """Answer a request."""
        split = urlsplit(asked.path)
        path = unquote(split.path).removeprefix("/dicom-web").rstrip("/")
        query = {name: values[0] for name, values in parse_qs(split.query).items()}
        self.base = f"http://{asked.headers['Host']}/dicom-web"
        if self.needs_token and asked.headers.get("Authorization") != f"Bearer {TOKEN}":
            return Refusal(401).answer
        routes: Sequence[tuple[str, str, Callable[..., Answer]]] = (
            ("GET", f"{_INSTANCE}/frames/([0-9,]+)", self._frames),
            ("GET", f"{_INSTANCE}/bulkdata/{_UID}", self._bulk),
            ("GET", f"(?:{_SERIES}|{_INSTANCE})/metadata", self._metadata),
            ("GET", f"(?:{_STUDY}(?:/series/{_UID})?)?/(studies|series|instances)", self._search),
            ("GET", _INSTANCE, self._instance),
            ("POST", "/studies(?:/([^/]+))?", self._store),
        )
        for method, pattern, handle in routes:
            found = re.fullmatch(pattern, path)
            if found and asked.method == method:
                try:
                    return handle(asked, query, *(part for part in found.groups() if part is not None))
                except Refusal as refusal:
                    return refusal.answer
        return Refusal(404).answer

    # What products do in their own way.

    def frame_form(self, accepted: Sequence[Range], stored: Stored, count: int) -> tuple[str, bool]:
        """Return the transfer syntax to give frames in, and whether as a single part; or refuse."""
        raise NotImplementedError

    def instance_form(self, accepted: Sequence[Range], stored: Stored) -> tuple[str, bool]:
        """Return the transfer syntax to give an instance in, and whether as a single part; or refuse."""
        raise NotImplementedError

    def part_type(self, stored: Stored, syntax: str) -> str:
        """Return the Content-Type of a frame's part."""
        media = "image/jpeg" if syntax == stored.syntax else "application/octet-stream"
        return f"{media}; transfer-syntax={syntax}"

    def described(self, found: dict[str, Any]) -> dict[str, Any]:
        """Return metadata as the product gives them."""
        return found

    def bulk_base(self) -> str:
        """Return the address that Bulk Data URIs begin with."""
        return self.base

    def place(self, stored: Stored, number: int) -> Mapping[str, str]:
        """Return the headers of a frame's part besides its type."""
        del stored, number
        return {}

    def existing(self, held: Stored, sent: Stored) -> int | None:
        """Decide on an object that is there already: a FailureReason; None to say yes."""
        raise NotImplementedError

    def refused(self, sent: Stored) -> int | None:
        """Decide on an object that is not there: a FailureReason; None to store it."""
        del sent

    def kept(self, sent: Stored) -> bool:
        """Decide whether an object is there afterwards, whatever is said."""
        del sent
        return True

    # The requests.

    def _frames(self, asked: Asked, _: Mapping[str, str], *found: str) -> Answer:
        *uids, listed = found
        stored, numbers = self._one(uids), [int(number) for number in listed.split(",")]
        self.refuse_frames(stored, numbers)
        there = self.frames_there(stored, numbers)
        syntax, single = self.frame_form(ranges(asked.headers.get("Accept", "")), stored, len(numbers))
        as_is = syntax == stored.syntax
        contents = [stored.frames[number - 1] if as_is else stored.decoded(number) for number in there]
        kind = self.part_type(stored, syntax)
        if single:
            return Answer(200, contents[0], {"Content-Type": kind})
        parts = [Part(kind, body, self.place(stored, n)) for n, body in zip(there, contents, strict=True)]
        return multipart(parts, kind.partition(";")[0], 200 if there == numbers else 206)

    def refuse_frames(self, stored: Stored, numbers: Sequence[int]) -> None:
        """Refuse a list of frames for what it is."""
        del stored
        if self.most_frames is not None and len(numbers) > self.most_frames:
            raise Refusal(400)

    def frames_there(self, stored: Stored, numbers: Sequence[int]) -> list[int]:
        """Return the numbers to answer; refuse those that do not exist."""
        if not all(1 <= number <= len(stored.frames) for number in numbers):
            raise Refusal(404)
        return list(numbers)

    def _metadata(self, asked: Asked, _: Mapping[str, str], *uids: str) -> Answer:
        if "application/dicom+json" not in [entry.media for entry in ranges(asked.headers.get("Accept", ""))]:
            raise Refusal(406)
        found = self.archive.find(*uids)
        if not found:
            raise Refusal(404)
        body = [self.described(stored.metadata(self.bulk_base())) for stored in found]
        return Answer(200, json.dumps(body).encode(), JSON)

    def _bulk(self, asked: Asked, _: Mapping[str, str], *found: str) -> Answer:
        *uids, tag = found
        value = self._one(uids).bulk(tag)
        accepted = ranges(asked.headers.get("Accept", ""))
        if value is None:
            raise Refusal(404)
        if not any(entry.media == "*/*" or entry.of == "application/octet-stream" for entry in accepted):
            raise Refusal(406)
        return multipart([Part("application/octet-stream", value)], "application/octet-stream")

    def _instance(self, asked: Asked, _: Mapping[str, str], *uids: str) -> Answer:
        stored = self._one(uids)
        syntax, single = self.instance_form(ranges(asked.headers.get("Accept", "")), stored)
        file = stored.file if syntax == stored.syntax else stored.rewritten(syntax)
        kind = f"application/dicom; transfer-syntax={syntax}"
        if single:
            return Answer(200, file, {"Content-Type": kind})
        return multipart([Part(kind, file)], "application/dicom")

    def _search(self, asked: Asked, query: Mapping[str, str], *found: str) -> Answer:
        del asked
        *uids, level = found
        modality = query.get("Modality") or query.get("ModalitiesInStudy") or ""
        start, limit = int(query.get("offset", 0)), int(query.get("limit", 100))
        if limit > self.most_found:
            raise Refusal(400)
        entries = self.archive.search(level, tuple(uids), modality)[start : start + limit]
        return Answer(200, json.dumps(entries).encode(), JSON) if entries else Answer(204)

    def _store(self, asked: Asked, _: Mapping[str, str], *study: str) -> Answer:
        stored, failed = [], []
        for file in asked.objects:
            sent = Stored(file)
            held = self.archive.held.get(sent.uids)
            wrong_study = study and sent.uids[0] != study[0]
            reason = 0xA900 if wrong_study else self.existing(held, sent) if held else self.refused(sent)
            named = item({"00081150": ("UI", str(sent.dataset.SOPClassUID)), "00081155": ("UI", sent.uid)})
            if reason is not None:
                failed.append({**named, **item({"00081197": ("US", reason)})})
                continue
            if not held and self.kept(sent):
                self.archive.put(sent)
            stored.append(named)
        body = {
            tag: {"vr": "SQ", "Value": items} for tag, items in (("00081199", stored), ("00081198", failed)) if items
        }
        status = 200 if not failed else 202 if stored else 409
        return Answer(status, json.dumps(body).encode(), JSON)

    def _one(self, uids: Sequence[str]) -> Stored:
        found = self.archive.find(*uids)
        if not found:
            raise Refusal(404)
        return found[0]


def wanted_syntax(entry: Range, stored: Stored, default: str = ExplicitVRLittleEndian) -> str:
    """Return the transfer syntax that a range asks for."""
    return stored.syntax if entry.syntax == "*" else entry.syntax or default
