"""The settings of the intake: the rules, how archives are watched, and who is told of jobs that ended."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.domain.job import Lane
from models.domain.request import DEFAULT_TISSUE_FRACTION, Annotations, ColorProfile, Missing
from worker.ledger.arrival_records import Patience

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Pattern = Annotated[str, Field(min_length=1, max_length=64)]


class PatchSettings(BaseModel):
    """Which patches: ``[rules.patches]``; what is not set is what the encoder is meant for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spacing_um: _Positive | None = None
    native: bool = False
    patch_px: int | None = Field(None, ge=1, le=4096)
    stride_px: int | None = Field(None, ge=1, le=65536)
    all_patches: bool = False
    min_tissue: float = Field(DEFAULT_TISSUE_FRACTION, ge=0, le=1)
    tissue: Literal["otsu", "ez-wsi"] = "otsu"
    upsample: bool = False
    missing: Missing = "error"
    color_profile: ColorProfile = "none"
    require_profile: bool = False

    @model_validator(mode="after")
    def _one_spacing(self) -> Self:
        if self.native and self.spacing_um is not None:
            raise ValueError("native and spacing_um contradict each other; give one")
        return self


class RuleSettings(BaseModel):
    """Which slides of a watched archive are embedded, and how: ``[[rules]]``; the first that matches holds.

    Lists hold patterns (``*`` and ``?``, capitals do not matter); one of them must fit. An empty list fits everything.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    endpoints: list[_Pattern] = Field(default_factory=list)
    modality: list[_Pattern] = Field(default_factory=lambda: ["SM"], min_length=1)
    station: list[_Pattern] = Field(default_factory=list)
    container_type: list[_Pattern] = Field(default_factory=list)
    study_description: list[_Pattern] = Field(default_factory=list)
    calling_aet: list[_Pattern] = Field(default_factory=list)
    spacing_um: tuple[_Positive, _Positive] | None = None
    skip: bool = False
    encoder: str = ""
    encoder_options: dict[str, str] = Field(default_factory=dict)
    weights: Path | None = None
    lane: Lane = Lane.STANDARD
    patches: PatchSettings = PatchSettings()
    write_back: bool = False
    out: str = ""
    dicom: bool = False
    picture: bool = False
    table: list[str] = Field(default_factory=list)
    maps: bool = False
    annotations: Annotations = "required"

    @model_validator(mode="after")
    def _says_what_to_do(self) -> Self:
        if self.skip and self.model_fields_set & {"encoder", "write_back", "out"}:
            raise ValueError("a rule that skips slides has no encoder and no outputs")
        if not self.skip and not self.encoder:
            raise ValueError('a rule names an encoder, for example encoder = "uni", or says skip = true')
        if not self.skip and not (self.write_back or self.out):
            raise ValueError('a rule says where results go: write_back = true, or out = "/srv/embeddings"')
        if self.spacing_um is not None and self.spacing_um[0] > self.spacing_um[1]:
            raise ValueError("spacing_um is [least, most], for example [0.2, 0.3]")
        return self


class WatchSettings(BaseModel):
    """How archives are watched: ``[watch]``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    quiet_s: _Positive = 60.0
    deadline_h: _Positive = 24.0
    events_s: float = Field(0.5, ge=0.1, le=60)
    reconcile_s: float = Field(900.0, ge=1, allow_inf_nan=False)
    reconcile_days: int = Field(3, ge=0, le=36500)
    threads: int = Field(4, ge=1, le=64)

    @property
    def patience(self) -> Patience:
        """How long series are waited for."""
        return Patience(self.quiet_s, self.deadline_h * 3600.0)

    @model_validator(mode="after")
    def _deadline_after_quiet(self) -> Self:
        if self.deadline_h * 3600 <= self.quiet_s:
            raise ValueError("deadline_h is over before quiet_s: a slide would be late before it is looked at")
        return self


class WebhookSettings(BaseModel):
    """Who is told of jobs that ended, and of slides that are late: ``[webhook]``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(pattern=r"^https?://[^\s?#@]+$")
    secret: str = Field(min_length=1, repr=False)
    identify: bool = False
    ca_bundle: Path | None = None
    timeout_s: _Positive = 10.0
    patience_h: _Positive = 72.0
