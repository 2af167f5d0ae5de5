"""Frames of instances by WADO-RS, asked for in the form and number that a server answers, and checked one by one."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from connectors import multipart
from connectors.http import Answer, HttpSession, Spoiled, retrying
from connectors.negotiation import FrameForm, Terms, codec_of, image_form
from models.domain.errors import FrameMissing, ResponseInvalid, SlidewireError
from models.imaging.syntax import CODEC_OF_SYNTAX, Codec, sniff

_LOCATION = re.compile(r"(?:.*/)?instances/(?P<instance>[^/]+)/frames/(?P<number>[0-9]{1,9})/?")
_NOT_ACCEPTABLE = frozenset({406, 415})
_NOT_THERE = frozenset({404, 410})
_URL_TOO_LONG = frozenset({414, 431})
_JUDGED = _NOT_ACCEPTABLE | _NOT_THERE | _URL_TOO_LONG | {400, 413}
_FRAME_SLACK_BYTES = 1 << 14  # a part's header; tables and marks that a tiny frame may be smaller than
_BODY_SLACK_BYTES = 1 << 16
_TRIES_OF_SEVERAL = 2  # what fails as a whole is halved: that is a further try

Numbered = tuple[int, multipart.Part]


class _NotSo(Exception):
    """The server does not answer this request so: other forms, or fewer frames, may do.

    Parameters
    ----------
    error : SlidewireError
        What it is if there is nothing else to try.
    status : int
        0: it answered, with another number of parts.
    """

    def __init__(self, error: SlidewireError, status: int = 0) -> None:
        super().__init__(error.message)
        self.error, self.status = error, status


@dataclass(frozen=True, slots=True)
class _Asked:
    """One instance's frames: its URL, its UID, the length of a native frame, and what it is stored as ("": unknown)."""

    url: str
    uid: str
    native_bytes: int
    stored_as: str

    def frames_url(self, numbers: Sequence[int]) -> str:
        return f"{self.url}/frames/{','.join(map(str, numbers))}"


class FrameFeed:
    """Fetches frames from one server.

    Parameters
    ----------
    session : HttpSession
    terms : Terms
        What is known of the server; more is learnt on the way.

    Attributes
    ----------
    notes : set of str
        What was done otherwise than asked for, for the notes of a slide.
    """

    def __init__(self, session: HttpSession, terms: Terms) -> None:
        self._session, self._terms = session, terms
        self._label = session.endpoint.label
        self._looked_at: set[str] = set()
        self.notes: set[str] = set()

    def frames(
        self, instance_path: Any, numbers: Sequence[int], native_bytes: int, stored_as: str = ""
    ) -> Iterator[Numbered]:
        """Yield (number, part) of an instance's frames in the order asked.

        Batches are split by count and URL; a batch that is refused is halved, and what is learnt is kept for the
        server. Frames before one that is missing are yielded before the error: the caller may go on after it.

        Parameters
        ----------
        instance_path : dicom_path.Path
        numbers : sequence of int
            1-based within the instance, each once.
        native_bytes : int
            Length of a frame if it were uncompressed; a body far larger than that is given up.
        stored_as : str
            Transfer syntax or Lossy Image Compression Method that the metadata name; "" if they name none.

        Raises
        ------
        FrameMissing
            The server does not have the first frame that was not yielded, or never gives it.
        ResponseInvalid
            It gives frames in no form that Slidewire knows, another instance's frames, or no frames at all.
        """
        asked = _Asked(instance_path.complete_url, instance_path.instance_uid, native_bytes, stored_as)
        at = 0
        while at < len(numbers):
            batch = self._next_batch(asked.url, numbers[at:])
            yield from self._halving(asked, batch)
            at += len(batch)

    def batches(self, instance_path: Any, numbers: Sequence[int]) -> Iterator[list[int]]:
        """Split frame numbers into requests by count and by the length of the URL."""
        at = 0
        while at < len(numbers):
            batch = self._next_batch(instance_path.complete_url, numbers[at:])
            yield batch
            at += len(batch)

    def _next_batch(self, url: str, numbers: Sequence[int]) -> list[int]:
        endpoint = self._session.endpoint
        most = self._terms.frames_per_request(endpoint.frames_per_request)
        room = self._terms.url_characters(endpoint.url_characters) - len(f"{url}/frames/")
        batch = list[int]()
        for number in numbers[:most]:
            room -= len(str(number)) + 1
            if batch and room < 0:
                break
            batch.append(number)
        return batch

    def _halving(self, asked: _Asked, numbers: list[int]) -> Iterator[Numbered]:
        """Yield frames in order, asking for half as many each time that a request is refused."""
        size, at, longest, refused = len(numbers), 0, 0, None
        while at < len(numbers):
            batch = numbers[at : at + size]
            try:
                found = self.ask(asked, batch)
            except _NotSo as exc:
                if len(batch) == 1:
                    raise exc.error from None
                size, longest, refused = len(batch) // 2, 0, exc
                continue
            yield from found
            at += len(batch)
            longest = max(longest, len(asked.frames_url(batch)))
        # Only now: had one of the frames been missing, the number of them would not have been at fault.
        if refused is not None and refused.status in _URL_TOO_LONG:
            self._terms.limit_url(longest)
        elif refused is not None:
            self._terms.limit_frames(size)

    def ask(self, asked: _Asked, numbers: list[int]) -> list[Numbered]:
        """Ask for frames in one request, in the form that the server answers."""
        form, settled = self._terms.form, self._terms.settled
        if form.single and len(numbers) > 1:
            raise _NotSo(ResponseInvalid(f"The {self._label} gives one frame a request."))
        try:
            found = self._request(asked, numbers, form)
        except _NotSo as exc:
            if exc.status not in _NOT_ACCEPTABLE and (exc.status != 400 or settled):
                raise
            other = self._search(asked, numbers[0], exc)
            if other == form:  # it was not the form that was refused
                self._terms.settle(form)
                raise
            self._terms.settle(other)
            return self.ask(asked, numbers)
        better = self._better(asked, found[0][1])
        if better is not None:
            self._terms.settle(better)
            return self.ask(asked, numbers)
        if form.pixels == "server":
            self.notes.add("the server gives no frames as they are stored: its own decoder made the pixels")
        if not settled:
            self._terms.settle(form)
        return found

    def _search(self, asked: _Asked, number: int, refusal: _NotSo) -> FrameForm:
        """Return a form that brings a frame, the first being the one that is in use: it may not have been at fault."""
        statuses = {refusal.status}
        forms, own = self._terms.forms(), image_form(asked.stored_as)
        by_pixels = {pixels: [form for form in forms if form.pixels == pixels] for pixels in ("stored", "server")}
        for form in dict.fromkeys((*by_pixels["stored"], *filter(None, [own]), *by_pixels["server"])):
            try:
                [(_, part)] = self._request(asked, [number], form)
            except _NotSo as exc:
                if exc.status not in _NOT_ACCEPTABLE | {400}:
                    raise exc.error from None
                statuses.add(exc.status)
            else:
                return self._better(asked, part) or form
        if 400 in statuses:  # Orthanc says so of a frame beyond the last
            raise self._missing([number], 400)
        raise ResponseInvalid(
            f"The {self._label} gives frames in no form that Slidewire knows ({', '.join(map(str, sorted(statuses)))})."
        )

    def _better(self, asked: _Asked, part: multipart.Part) -> FrameForm | None:
        """Return the form that brings what is stored, if the server decoded this frame before it sent it.

        That is tried once an instance, and believed only if the bytes are of the codec that the metadata name: a
        server that encodes anew for whoever asks gives no stored pixels either.
        """
        own, codec = image_form(asked.stored_as), codec_of(asked.stored_as)
        if own is None or codec is None or asked.uid in self._looked_at or not _is_native(part, asked.native_bytes):
            return None
        self._looked_at.add(asked.uid)
        try:
            [(_, found)] = self._request(asked, [1], own)
        except (_NotSo, ResponseInvalid):
            found = None
        if found is not None and sniff(found.data, asked.native_bytes) is codec:
            return own
        self.notes.add("the server decodes what it stores compressed: its own decoder made the pixels")
        return None

    def _request(self, asked: _Asked, numbers: list[int], form: FrameForm) -> list[Numbered]:
        most_bytes = len(numbers) * (2 * asked.native_bytes + _FRAME_SLACK_BYTES) + _BODY_SLACK_BYTES
        url = asked.frames_url(numbers)

        whole = True

        def attempt() -> list[Numbered]:
            nonlocal whole
            answer = self._session.fetch_once(url, form.accept, _JUDGED, most_bytes)
            self._judge(answer, numbers)
            try:
                # Orthanc 1.10 breaks off in the middle of its parts when it comes to a frame that is not there.
                whole = not answer.content_type.lower().startswith("multipart/")
                parts = multipart.parse(answer.body, answer.content_type, self._label, len(numbers))
                whole = True
                return self._mapped(asked, numbers, parts)
            except SlidewireError as exc:
                raise Spoiled(exc) from None

        try:
            return retrying(attempt) if len(numbers) == 1 else retrying(attempt, _TRIES_OF_SEVERAL)
        except FrameMissing as exc:
            raise _NotSo(exc) from None
        except ResponseInvalid as exc:
            if whole:
                raise
            raise _NotSo(exc) from None

    def _judge(self, answer: Answer, numbers: list[int]) -> None:
        status = answer.status
        if status in _NOT_THERE or status == 400:
            raise _NotSo(self._missing(numbers, status), status)
        if status in _JUDGED:
            raise _NotSo(ResponseInvalid(f"The {self._label} refused the request ({status})."), status)

    def _missing(self, numbers: Sequence[int], status: int) -> FrameMissing:
        which = f"frame {numbers[0]}" if len(numbers) == 1 else f"frames {numbers[0]} to {numbers[-1]}"
        return FrameMissing(
            f"The {self._label} does not give {which} of an instance ({status}), though its metadata promise it."
        )

    def _mapped(self, asked: _Asked, numbers: list[int], parts: list[multipart.Part]) -> list[Numbered]:
        """Say which part is which frame: by Content-Location (PS3.18 8.6.1.2.2) where there is one, else by order."""
        if len(parts) != len(numbers):
            count = f"{len(parts)} frames" if len(parts) < len(numbers) else "more frames"
            raise FrameMissing(f"The {self._label} gave {count} where {len(numbers)} were asked for.")
        if any(not part.data for part in parts):
            raise FrameMissing(f"The {self._label} gave a frame of no bytes.")
        named = [_place(part.location) for part in parts]
        if any(place and place[0] != asked.uid for place in named):
            raise ResponseInvalid(f"The {self._label} gave a frame of another instance than was asked for.")
        if all(place is not None for place in named):
            by_number: Mapping[int, multipart.Part] = {
                place[1]: part for place, part in zip(named, parts, strict=True) if place
            }
            if by_number.keys() != set(numbers):
                raise FrameMissing(f"The {self._label} gave other frames than were asked for.")
            return [(number, by_number[number]) for number in numbers]
        if any(place and place[1] != number for place, number in zip(named, numbers, strict=True)):
            raise FrameMissing(f"The {self._label} gave other frames than were asked for.")
        return list(zip(numbers, parts, strict=True))


def _is_native(part: multipart.Part, native_bytes: int) -> bool:
    declared = CODEC_OF_SYNTAX.get(multipart.transfer_syntax_of(part.content_type), Codec.NATIVE)
    return declared is Codec.NATIVE and sniff(part.data, native_bytes) is Codec.NATIVE


def _place(location: str) -> tuple[str, int] | None:
    """Return the instance and the frame that a Content-Location names; None if it names no single frame."""
    try:
        found = _LOCATION.fullmatch(urlsplit(location).path)
    except ValueError:
        return None
    return (found["instance"], int(found["number"])) if found else None
