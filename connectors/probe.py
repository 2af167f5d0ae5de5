"""Finding out what a DICOMweb server can do, once, by asking it: for `slidewire doctor`."""

import datetime as dt
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Literal

import numpy as np
from ez_wsi_dicomweb.ml_toolkit import dicom_path

from connectors import multipart
from connectors.dicom.attributes import Json, text
from connectors.dicom.metadata import SOP_INSTANCE, frame_count, select_slide
from connectors.dicom.result.objects import build_objects
from connectors.dicomweb import DicomWeb, native_bytes_of, syntax_named
from connectors.endpoints import Endpoint, require_uid
from connectors.http import json_of
from connectors.negotiation import FRAME_FORMS, terms_of
from connectors.profile import Profile
from connectors.protocols import Result
from connectors.sinks.stow import StowSink
from models.domain.embedding import Embeddings, Provenance, ResultKey
from models.domain.errors import (
    EndpointBusy,
    EndpointFailed,
    RequestError,
    ResponseInvalid,
    SeriesNotFound,
    StoreRefused,
)
from models.imaging.syntax import settle

_JSON = "application/dicom+json"
_STUDY, _SERIES = "0020000D", "0020000E"
_FIELDS = {
    "00020010": "Transfer Syntax UID",
    "00083002": "Available Transfer Syntax UID",
    "00280008": "Number of Frames",
    "00480006": "Total Pixel Matrix Columns",
    "52009229": "Shared Functional Groups Sequence",
}
_REFUSALS = frozenset(range(400, 500)) - {401, 403, 408, 425, 429}
_ONE_FRAME_TRIES = 5
_WRITE_PATCHES = 4

Verdict = Literal["good", "note", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a doctor's report: what was tried, what came, what that means, and whether it is in order."""

    tried: str
    came: str
    means: str
    verdict: Verdict = "good"


@dataclass
class _Notes:
    profile: Profile
    findings: list[Finding] = field(default_factory=list)

    def add(self, tried: str, came: str, means: str, verdict: Verdict = "good") -> None:
        self.findings.append(Finding(tried, came, means, verdict))

    def learn(self, **found: Any) -> None:
        self.profile = replace(self.profile, **found)


def find_series(web: DicomWeb) -> tuple[str, str]:
    """Return study and series UID of a whole-slide series, by QIDO (PS3.18 10.6).

    Raises
    ------
    SeriesNotFound
        The server finds none: name one.
    """
    base, label = web.session.endpoint.url.rstrip("/"), web.session.endpoint.label
    for study in _search(web, f"{base}/studies?ModalitiesInStudy=SM&limit=5"):
        uid = _uid_of(study, _STUDY, label)
        for series in _search(web, f"{base}/studies/{uid}/series?Modality=SM&limit=5"):
            return uid, _uid_of(series, _SERIES, label)
    raise SeriesNotFound(f"The {label} finds no series of modality SM: name one, ENDPOINT/STUDY_UID/SERIES_UID.")


def _uid_of(item: Json, tag: str, label: str) -> str:
    try:
        return require_uid(text(item, tag), "UID")
    except RequestError:
        raise ResponseInvalid(f"The {label} answered a search with something that is no UID.") from None


def _search(web: DicomWeb, url: str) -> list[Json]:
    answer = web.session.fetch(url, _JSON, _REFUSALS)
    if answer.status in _REFUSALS or not answer.body:
        return []
    found = json_of(answer, web.session.endpoint.label, json.loads)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


class Probe:
    """Asks a server what it can do, by one series.

    Parameters
    ----------
    endpoint : Endpoint
        Its own profile is not believed.
    study_uid, series_uid : str
        Of a slide; "": one is looked for.
    """

    def __init__(self, endpoint: Endpoint, study_uid: str = "", series_uid: str = "") -> None:
        self._endpoint = replace(endpoint, profile=None)
        self._web = DicomWeb(self._endpoint)
        self._terms = terms_of(self._endpoint)
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        self._notes = _Notes(Profile(self._endpoint.url.rstrip("/"), now))
        if not series_uid:
            study_uid, series_uid = find_series(self._web)
            self._notes.add("search for a slide", "found one", "series of modality SM can be searched for")
        self._study_uid = study_uid
        base = self._endpoint.url.rstrip("/")
        self._series = dicom_path.FromString(f"{base}/studies/{study_uid}/series/{series_uid}")

    def run(self, *, write: bool = False) -> tuple[Profile, tuple[Finding, ...]]:
        """Ask everything; return the profile and what was found.

        Parameters
        ----------
        write : bool
            Also store an annotations object of four patches in the slide's study. It stays there.

        Raises
        ------
        SlidewireError
            The server cannot be used at all.
        """
        instances = self._metadata()
        self._fields()
        large = max(instances, key=frame_count)
        self._frame(large)
        self._batches(large)
        self._whole_instance(min(instances, key=frame_count))
        self._writing(instances[0]) if write else self._not_writing()
        return self._notes.profile, tuple(self._notes.findings)

    def close(self) -> None:
        """Close the connections."""
        self._web.session.close()

    def _path(self, item: Json) -> Any:
        return dicom_path.FromPath(self._series, instance_uid=text(item, SOP_INSTANCE))

    def _metadata(self) -> Sequence[Json]:
        selected = select_slide(self._web.metadata(self._series))
        named = any(syntax_named(item) for item in selected.instances)
        self._notes.learn(metadata_syntax=named)
        means = "name the transfer syntax" if named else "do not name the transfer syntax: a frame is asked for it"
        self._notes.add("/metadata", f"{len(selected.instances)} instances of a slide", f"they {means}")
        for note in selected.notes:
            self._notes.add("the slide", note, "recorded in results", "note")
        return selected.instances

    def _fields(self) -> None:
        wanted = "".join(f"&includefield={tag}" for tag in _FIELDS)
        found = _search(self._web, f"{self._series.complete_url}/instances?limit=1{wanted}")
        fields = tuple(tag for tag in _FIELDS if found and tag in found[0])
        self._notes.learn(search_fields=fields)
        said = ", ".join(_FIELDS[tag] for tag in fields) or ("UIDs only" if found else "nothing")
        self._notes.add("search of instances (QIDO)", said, "not relied on: metadata are read from /metadata")

    def _frame(self, item: Json) -> None:
        native = native_bytes_of(item)
        [(_, part)] = self._web.frames(self._path(item), [1], native)
        form = self._terms.form
        self._notes.learn(frame_accept=form.accept, frame_pixels=form.pixels, frame_single=form.single)
        means = "what Slidewire asks first" if form == FRAME_FORMS[0] else "found by trying: kept in the profile"
        self._notes.add("a frame", f"comes for Accept: {form.accept}", means)
        decoded = any("decod" in note for note in self._web.mislabelled)
        if form.pixels == "server" or decoded:
            self._notes.add(
                "frames as they are stored", "the server decodes them", "larger, and by another decoder", "note"
            )
        declared = multipart.transfer_syntax_of(part.content_type)
        syntax, kept = settle(declared, part.data, native)
        self._notes.learn(declared_syntax=declared, found_syntax=syntax)
        if kept:
            self._notes.add("transfer syntax of a frame", syntax or "none", "the part's header is right, or says none")
        else:
            self._notes.add("transfer syntax of a frame", f"says {declared}, is {syntax}", "bytes are believed", "note")
        self._single_part(item)

    def _single_part(self, item: Json) -> None:
        url = f"{self._path(item).complete_url}/frames/1"
        single = next(form for form in FRAME_FORMS if form.single)
        try:
            answer = self._web.session.fetch(url, single.accept, _REFUSALS)
        except EndpointFailed:
            answered = False
        else:
            answered = answer.status not in _REFUSALS and not answer.content_type.startswith("multipart/")
        self._notes.learn(single_part="yes" if answered else "no")
        self._notes.add("a frame as a single part", "answered" if answered else "refused", "not needed")

    def _batches(self, item: Json) -> None:
        path, native = self._path(item), native_bytes_of(item)
        count = min(frame_count(item), self._endpoint.frames_per_request)
        asked = max(len(batch) for batch in self._web.batches(path, range(1, count + 1)))
        for _ in self._web.frames(path, range(1, count + 1), native):
            pass
        limit = self._terms.most_frames
        url = f"{path.complete_url}/frames/{','.join(map(str, range(1, (limit or asked) + 1)))}"
        refused = None if limit is None else min(asked, 2 * limit)
        self._notes.learn(most_frames=limit, frames_refused=refused, url_characters=len(url))
        if limit is None:
            self._notes.add(f"{asked} frames a request", "all came", "no limit was met")
        else:
            self._notes.add(f"{asked} frames a request", f"refused; {limit} come", "kept in the profile", "note")
        self._costs(path, native, min(limit or asked, 64))

    def _costs(self, path: Any, native: int, several: int) -> None:
        """Fit what a request and a frame cost from the time that one frame and several take."""
        if several < 2:
            return
        one = median(self._seconds(path, native, 1) for _ in range(_ONE_FRAME_TRIES))
        many = median(self._seconds(path, native, several) for _ in range(3))
        frame_s = max(0.0, (many - one) / (several - 1))
        request_s = max(0.0, one - frame_s)
        self._notes.learn(request_s=round(request_s, 6), frame_s=round(frame_s, 6))
        per = self._notes.profile.pays_per()
        a_frame = f"{1000 * frame_s:.2f} ms a frame" if frame_s else "a frame too little to tell"
        self._notes.add(
            f"time of 1 and of {several} frames",
            f"{1000 * request_s:.1f} ms a request, {a_frame}",
            f"time goes by the {per}: {'large' if per == 'request' else 'small'} requests will do",
        )

    def _seconds(self, path: Any, native: int, count: int) -> float:
        start = time.perf_counter()
        for _ in self._web.frames(path, range(1, count + 1), native):
            pass
        return time.perf_counter() - start

    def _whole_instance(self, item: Json) -> None:
        try:
            self._web.instance(self._path(item).complete_url)
        except (ResponseInvalid, EndpointFailed) as exc:
            self._notes.add("a whole instance", exc.message, "results cannot be read back: no --write-back", "bad")
            return
        form = self._terms.instance_form
        self._notes.learn(instance_accept=form)
        self._notes.add("a whole instance", f"comes for Accept: {form.format('*')}", "results can be read back")

    def _not_writing(self) -> None:
        self._notes.add("storing annotations (STOW)", "not tried", "--write-test stores four patches and leaves them")

    def _writing(self, item: Json) -> None:
        sink = StowSink(self._endpoint, self._study_uid)
        try:
            sink.store(next(build_objects(_made_up(item))))
        except StoreRefused as exc:
            self._notes.learn(stores_annotations="no")
            means = "use --out, with --write-back and --annotations if-accepted for the report alone, or without"
            self._notes.add("storing annotations (STOW)", exc.message, means, "bad")
        except EndpointBusy as exc:
            self._notes.add("storing annotations (STOW)", exc.message, "try again later", "note")
        else:
            self._notes.learn(stores_annotations="yes")
            self._notes.add("storing annotations (STOW)", "stored, and read back the same", "--write-back will do")
        finally:
            sink.close()


def _made_up(item: Json) -> Result:
    """Return a result of four patches that says what it is; the same for the same slide, so stored once."""
    corners = np.array([[0, 0], [8, 0], [0, 8], [8, 8]], np.int32)
    boxes = np.hstack([corners, np.full((_WRITE_PATCHES, 2), 8, np.int32)])
    vectors = np.arange(2 * _WRITE_PATCHES, dtype=np.float32).reshape(_WRITE_PATCHES, 2) / np.float32(8)
    pixels = corners.astype(np.float64)
    key = ResultKey.of({"doctor": text(item, SOP_INSTANCE)})
    provenance = Provenance(
        result_key=key.sha256, slidewire="doctor", encoder="slidewire-doctor", encoder_revision="1",
        encoder_licence="none", encoder_source="a test of whether this archive stores annotations", weights_sha256="",
        preprocessing="none: these numbers mean nothing", dimension=2, patch_px=8, stride_px=8,
        patches=_WRITE_PATCHES, spacing_um=None, requested_spacing_um=None, level=0, level_scale=(1.0, 1.0),
        level_0_spacing_um=None, tissue_fraction=None, grid_patches=_WRITE_PATCHES,
        notes=("made up by slidewire doctor",),
    )  # fmt: skip
    embeddings = Embeddings(vectors, boxes, pixels, pixels)
    return Result(key, "slidewire-doctor", embeddings, provenance, item)


def usable(findings: Sequence[Finding]) -> bool:
    """Whether nothing was found that stands in the way."""
    return all(finding.verdict != "bad" for finding in findings)
