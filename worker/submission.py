"""A request becomes a job: the slide is opened, its tissue found, its patches fixed, its result named."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from connectors.endpoints import Endpoints
from connectors.protocols import Source, Traffic
from connectors.registry import open_source
from connectors.tables.registry import check_tables
from models.domain.embedding import Provenance, ResultKey
from models.domain.errors import ColorUnavailable, RequestError
from models.domain.plan import Plan
from models.domain.request import EmbedRequest, PatchSpec, check_known
from models.domain.slide import Reading, SlideRef
from models.encoders import registry
from models.encoders.suitability import check_digest, check_licence, check_patches
from models.encoders.weights.digest import weights_digest
from models.encoders.weights.published import check_fetched
from models.imaging.color import color_transform
from worker.ledger import JobRecord, Lane, NewJob
from worker.settings import Settings
from worker.stages.plan import plan_patches
from worker.tissue import find_tissue
from worker.version import VERSION

_SCHEMA = 1  # raised when the same request would give another result


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request made ready for the ledger.

    Parameters
    ----------
    request : EmbedRequest
    ref : SlideRef
    plan : Plan
    key : ResultKey
    provenance : Provenance
    traffic : Traffic
        What had to be read of the slide for that.
    """

    request: EmbedRequest
    ref: SlideRef
    plan: Plan
    key: ResultKey
    provenance: Provenance
    traffic: Traffic

    def job(self, shard_patches: int, lane: Lane, endpoint: str) -> NewJob:
        """Return the job to be queued, to be read from an endpoint; the same request gives the same key."""
        request = {"request": self.request.to_json(), "provenance": self.provenance.to_json()}
        places = json.dumps([self.key.sha256, asdict(self.request.output), asdict(self.ref)], sort_keys=True)
        return NewJob(
            key=hashlib.sha256(places.encode()).hexdigest(),
            result_key=self.key.sha256,
            encoder=self.request.encoder,
            lane=lane,
            request=request,
            plan=self.plan.to_bytes(),
            patches=len(self.plan.grid),
            shards=self.plan.shards(shard_patches),
            endpoint=endpoint,
        )


def asked(job: JobRecord) -> tuple[EmbedRequest, Provenance]:
    """Return what a job of the ledger asks for, and what was known of it when it was submitted.

    Raises
    ------
    VersionUnknown
        A newer Slidewire submitted it.
    """
    request = EmbedRequest.from_json(job.request["request"])
    check_known(Provenance.__slots__, job.request["provenance"])
    return request, Provenance.from_json(job.request["provenance"])


@dataclass(frozen=True, slots=True)
class Ways:
    """What of the settings a request needs to become a job.

    Parameters
    ----------
    batch_size : int
        Patches a call of the encoder.
    weights : Path
        Folder of the fetched weights.
    accepted_licences : frozenset of str
        Those that somebody here agreed to.
    """

    batch_size: int
    weights: Path
    accepted_licences: frozenset[str] = frozenset()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return what the settings say."""
        return cls(settings.batch_size, settings.weights_folder, frozenset(settings.accepted_licences))


def settled(request: EmbedRequest, ways: Ways) -> tuple[EmbedRequest, str]:
    """Settle what the encoder is, and see that it may and can be run; the same for every slide of a backfill.

    Returns
    -------
    EmbedRequest
        With absolute paths, settled options, and notes; settled again, it stays the same.
    str
        Digest of the weights.

    Raises
    ------
    RequestError
        There is no such encoder, no such option, no consent to its licence, or no weights of its.
    """
    request = anchored(request)
    model = registry.find(request.encoder)
    options = tuple(sorted(model.settle(dict(request.options)).items()))
    check_licence(model.spec, ways.accepted_licences)
    weights = model.weights(Path(request.weights) if request.weights else None, ways.weights)
    digest = weights_digest(weights)
    check_fetched(model.spec, weights, ways.weights, digest)
    notes = dict.fromkeys((*request.notes, *check_digest(model.spec, digest, options)))
    return replace(request, options=options, notes=tuple(notes)), digest


def prepare(request: EmbedRequest, endpoints: Endpoints, ways: Ways) -> Prepared:
    """Open the slide and fix everything that identifies the result.

    Raises
    ------
    RequestError, SourceError, EndpointError, ResultError
        The request cannot be done; nothing has been written anywhere.
    """
    request, digest = settled(request, ways)
    ref = replace(endpoints.locate(request.source, request.instance_uids), reading=request.reading)
    if request.output.write_back and ref.kind != "dicomweb":
        raise RequestError("--write-back stores the result where the slide is, and the slide is in no PACS: use --out.")
    if request.output.dicom_files and ref.kind not in {"dicomweb", "dicom-files"}:
        raise RequestError("DICOM results need a DICOM slide: leave --dicom out for an image.")
    if request.reading != Reading() and ref.kind not in {"dicomweb", "dicom-files"}:
        raise RequestError("--optical-path, --focal-plane and --spacing-from are for DICOM slides: leave them out.")
    source = open_source(ref, endpoints)
    try:
        spec = request.patches
        selecting = spec.tissue_fraction is not None and spec.coordinates is None
        tissue = find_tissue(source, spec) if selecting else None
        plan = _colored(source, plan_patches(source.slide, spec, tissue, ways.batch_size), spec)
    finally:
        traffic = source.close()
    suited = check_patches(registry.find(request.encoder).spec, plan.grid, request.options)
    key = ResultKey.of(_identity(request, plan, digest))
    provenance = _provenance(request, plan, (key.sha256, digest, (*request.notes, *suited)))
    check_tables(request.output.tables, provenance)
    return Prepared(request, ref, plan, key, provenance, traffic)


def _colored(source: Source, plan: Plan, spec: PatchSpec) -> Plan:
    """Settle the colour space: as asked if the slide has a usable profile; if not, refuse, or say that it was left.

    Raises
    ------
    ColorUnavailable
        The request insists.
    """
    if spec.color_profile == "none":
        return plan
    profile = source.icc_profile(plan.grid.level)
    try:
        color_transform(profile, spec.color_profile)
    except ColorUnavailable as exc:
        if spec.color_required:
            raise
        note = f"colours are as they are stored, not in {spec.color_profile}: {exc.message}"
        return replace(plan, color_profile="none", notes=(*plan.notes, note))
    note = f"colours were brought to {spec.color_profile} by the slide's ICC profile"
    return replace(plan, notes=(*plan.notes, note), icc_sha256=hashlib.sha256(profile or b"").hexdigest())


def anchored(request: EmbedRequest) -> EmbedRequest:
    """Make paths absolute: the worker that runs the job stands in another folder."""
    folder = request.output.folder
    if folder and "://" not in folder:
        request = replace(request, output=replace(request.output, folder=str(Path(folder).expanduser().absolute())))
    if request.weights:
        request = replace(request, weights=str(Path(request.weights).expanduser().absolute()))
    if request.patches.tissue_file:
        file = str(Path(request.patches.tissue_file).expanduser().absolute())
        request = replace(request, patches=replace(request.patches, tissue_file=file))
    return request


def _identity(request: EmbedRequest, plan: Plan, weights_sha256: str) -> dict[str, Any]:
    boxes = plan.grid.boxes[np.argsort(plan.grid.rows, kind="stable")].astype("<i4")
    return {
        **_asked(request, plan, weights_sha256),
        "slide": [instance.digest for level in plan.slide.levels for instance in level.instances],
        "level": plan.grid.level,
        "boxes": hashlib.sha256(boxes.tobytes()).hexdigest(),
        "color": [plan.color_profile, plan.icc_sha256],
    }


def _asked(request: EmbedRequest, plan: Plan, weights_sha256: str) -> dict[str, Any]:
    """Return what identifies a result and has nothing of the slide in it."""
    spec = registry.find(request.encoder).spec
    patches = asdict(request.patches)
    for decided in ("coordinates", "tissue_file"):  # in the boxes
        patches.pop(decided)
    return {
        "schema": _SCHEMA,
        "patches": patches,
        "encoder": [spec.name, spec.source, spec.revision, spec.preprocessing, spec.dimension, weights_sha256],
        "color": [plan.color_profile],
        "options": [list(option) for option in request.options],
    }


def _recipe(request: EmbedRequest, plan: Plan, weights_sha256: str) -> str:
    """Return the name of what slides were embedded alike; patches that were chosen by hand make one of their own."""
    asked = _asked(request, plan, weights_sha256)
    given = request.patches.coordinates
    return ResultKey.of(asked if given is None else asked | {"coordinates": [list(point) for point in given]}).sha256


def _provenance(request: EmbedRequest, plan: Plan, known: tuple[str, str, tuple[str, ...]]) -> Provenance:
    spec = registry.find(request.encoder).spec
    result_key, weights_sha256, notes = known
    selecting = request.patches.coordinates is None
    return Provenance(
        result_key=result_key,
        slidewire=VERSION,
        encoder=spec.name,
        encoder_revision=spec.revision,
        encoder_licence=spec.licence.name,
        encoder_source=spec.source,
        weights_sha256=weights_sha256,
        preprocessing=spec.preprocessing,
        dimension=spec.dimension,
        patch_px=request.patches.patch_px,
        stride_px=request.patches.step_px,
        patches=len(plan.grid),
        spacing_um=plan.grid.spacing_um,
        requested_spacing_um=request.patches.spacing_um,
        level=plan.grid.level,
        level_scale=plan.scale,
        level_0_spacing_um=plan.slide.levels[0].spacing_um,
        tissue_fraction=request.patches.tissue_fraction if selecting else None,
        grid_patches=plan.grid_patches,
        notes=(*plan.notes, *notes),
        encoder_options=request.options,
        slide_px=(plan.slide.levels[0].width_px, plan.slide.levels[0].height_px),
        recipe=_recipe(request, plan, weights_sha256),
    )
