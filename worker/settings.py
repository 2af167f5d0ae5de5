"""Settings, declared once: from the environment (``SLIDEWIRE_...``), then from a TOML file, then the defaults."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import time
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from connectors.endpoints import Credentials, Endpoint, Endpoints, Timeouts
from connectors.hub_access import HubAccess
from connectors.profile import ProfileFolder
from connectors.protocols import Gate
from models.domain.errors import SettingsInvalid
from worker.intake_settings import RuleSettings, WatchSettings, WebhookSettings
from worker.ledger.records import EndpointRules, QuietHours, Rules

_FILE = "slidewire.toml"


class TimeoutSettings(BaseModel):
    """Seconds one request may take: to connect, between bytes, in all, waiting for a free connection.

    And the least bytes a second, over a window, that an answer comes at.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    connect_s: float = Field(5.0, gt=0)
    read_s: float = Field(60.0, gt=0)
    total_s: float = Field(600.0, gt=0)
    pool_s: float = Field(60.0, gt=0)
    least_bytes_s: float = Field(1000.0, ge=0)
    window_s: float = Field(10.0, gt=0)


class ServerSettings(BaseModel):
    """A server: where it is, who we are to it, and how long it may take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(pattern=r"^https?://[^\s?#@]+$")
    auth: Literal["none", "basic", "bearer", "oidc", "google"] = "none"
    username: str = ""
    secret: str = Field("", repr=False)
    token_url: str = Field("", pattern=r"^(https?://[^\s?#@]+)?$")
    client_id: str = ""
    scope: str = ""
    audience: str = ""
    ca_bundle: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    connections: int = Field(2, ge=1, le=64)
    timeouts: TimeoutSettings = TimeoutSettings()

    def endpoint(self, name: str) -> Endpoint:
        """Return the endpoint these settings describe."""
        return Endpoint(
            url=self.url.rstrip("/"),
            name=name,
            credentials=Credentials(
                self.auth, self.username, self.secret, self.token_url, self.client_id, self.scope, self.audience
            ),
            ca_bundle=self.ca_bundle,
            client_certificate=self.client_certificate,
            client_key=self.client_key,
            connections=self.connections,
            timeouts=Timeouts(**self.timeouts.model_dump()),
        )


class EndpointSettings(ServerSettings):
    """A DICOMweb server: ``[endpoints.NAME]`` in the file."""

    orthanc_url: str = Field("", pattern=r"^(https?://[^\s?#@]+)?$")
    frames_per_request: int = Field(900, ge=1, le=10_000)
    url_characters: int = Field(6000, ge=200)
    workers: int | None = Field(None, ge=1)
    requests_per_s: float | None = Field(None, ge=0.1, allow_inf_nan=False)
    quiet_hours: str = Field("", pattern=r"^(([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d)?$")
    time_zone: str = "UTC"

    @field_validator("quiet_hours")
    @classmethod
    def _not_never(cls, text: str) -> str:
        start, _, stop = text.partition("-")
        if text and start == stop:
            raise ValueError("the hours begin when they end")
        return text

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, KeyError):  # an absolute path, a folder, a name that is not there
            raise ValueError("there is no such time zone; give a name like Europe/Berlin") from None
        return name

    def endpoint(self, name: str) -> Endpoint:
        """Return the endpoint these settings describe."""
        return replace(
            super().endpoint(name),
            orthanc_url=self.orthanc_url.rstrip("/"),
            frames_per_request=self.frames_per_request,
            url_characters=self.url_characters,
        )

    @property
    def rules(self) -> EndpointRules:
        """How the fleet treats the server."""
        quiet = None
        if self.quiet_hours:
            start, stop = (time.fromisoformat(text) for text in self.quiet_hours.split("-"))
            quiet = QuietHours(start, stop, ZoneInfo(self.time_zone))
        return EndpointRules(self.workers, self.requests_per_s, quiet)


_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Side = Annotated[int, Field(ge=1, le=4096)]


class EncoderSettings(BaseModel):
    """An encoder that no package brings along: ``[encoders.NAME]`` in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runtime: Literal["onnx", "remote"]
    dimension: int = Field(ge=1, le=1_000_000)
    licence: str = Field(min_length=1)
    input_px: _Side = 224
    patches_px: list[_Side] = Field(default_factory=list)
    spacings_um: list[_Positive] = Field(default_factory=list)
    source: str = ""
    revision: str = Field("1", min_length=1)
    weights: Path | None = None
    sha256: str = Field("", pattern=r"^([0-9a-f]{64})?$")
    resize_px: _Side | None = None
    interpolation: Literal["bilinear", "bicubic", "area"] = "bilinear"
    value_range: tuple[_Finite, _Finite] = (0.0, 1.0)
    mean: tuple[_Finite, _Finite, _Finite] = (0.0, 0.0, 0.0)
    std: tuple[_Positive, _Positive, _Positive] = (1.0, 1.0, 1.0)
    server: ServerSettings | None = None

    @model_validator(mode="after")
    def _fits_the_runtime(self) -> Self:
        here = {"weights", "sha256", "resize_px", "interpolation", "value_range", "mean", "std"}
        clashing = sorted(self.model_fields_set & (here if self.runtime == "remote" else {"server"}))
        if clashing:
            raise ValueError(f"runtime {self.runtime!r} has no {', '.join(clashing)}")
        if self.runtime == "remote" and self.server is None:
            raise ValueError("runtime 'remote' needs a server, with its url")
        if self.resize_px is not None and self.resize_px < self.input_px:
            raise ValueError("resize_px is less than input_px, which is cut out of it")
        if self.value_range[0] >= self.value_range[1]:
            raise ValueError("value_range is (lowest, highest)")
        return self


class Settings(BaseSettings):
    """Everything that can be set.

    Each field can come from the environment as ``SLIDEWIRE_`` and its name in capitals, or from the file that
    ``SLIDEWIRE_CONFIG`` names, ``slidewire.toml`` in the working folder, or in the user's configuration folder.
    """

    model_config = SettingsConfigDict(
        env_prefix="SLIDEWIRE_", env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True
    )

    ledger_url: str = Field("", repr=False)
    """SQLAlchemy URL of the ledger; empty: an SQLite file in the state folder."""
    broker_url: str = Field("", repr=False)
    """Celery broker that rings the doorbell; empty: workers poll the ledger."""
    state_folder: Path = Field(default_factory=lambda: platformdirs.user_state_path("slidewire"))
    """Where the default ledger, the checkpoints and what is known of servers lie."""
    checkpoints: Path | None = None
    """Folder of the checkpoints, seen by all workers of a ledger; empty: in the state folder."""
    endpoints: dict[str, EndpointSettings] = Field(default_factory=dict)
    """DICOMweb servers by name."""
    allowed_urls: list[str] | None = None
    """Bases under which raw DICOMweb URLs may lie; not set: any."""
    cloud_credentials: Literal["google", "none"] = "google"
    """For Cloud Storage: application default credentials, or none (public buckets)."""
    storage_emulator: str = Field("", validation_alias="STORAGE_EMULATOR_HOST")
    """Set by Google's tools for an emulator, which takes no credentials."""
    batch_size: int = Field(64, ge=1, le=4096)
    """Patches a call of the encoder."""
    shard_patches: int = Field(4096, ge=1)
    """Patches a worker takes on at a time; keep it under ten minutes' work."""
    checkpoint_s: float = Field(20.0, gt=0)
    """Seconds between checkpoints."""
    lease_s: float = Field(60.0, gt=0)
    """Seconds after which a silent worker's shard goes to another."""
    stall_s: float = Field(300.0, gt=0)
    """Seconds without progress after which a worker takes itself for hung, and ends."""
    turn_s: float = Field(600.0, gt=0)
    """Seconds after which a worker gives a shard back at a checkpoint, so that more urgent ones come first."""
    patience_h: float = Field(168.0, gt=0)
    """Hours that a job waits for a server that answers nobody, before it fails."""
    poll_s: float = Field(1.0, gt=0)
    """Seconds between looks into an empty ledger."""
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """What encoders compute on: a GPU if there is one, the processor, or one GPU by its number; a process a GPU."""
    weights: Path | None = None
    """Folder that `slidewire encoders fetch` puts weights into; empty: in the state folder."""
    accepted_licences: list[str] = Field(default_factory=list)
    """Names of model licences that ask for consent and that you accept, as `slidewire encoders NAME` shows them."""
    hub_url: str = Field("", repr=False, validation_alias="HF_ENDPOINT")
    """Mirror of the Hugging Face hub that `slidewire encoders fetch` asks; looked at only there."""
    hub_token: str = Field("", repr=False, validation_alias="HF_TOKEN")
    """Token of the account that agreed to the terms of gated models."""
    encoders: dict[str, EncoderSettings] = Field(default_factory=dict)
    """Encoders of your own by name: an ONNX file, or a server."""
    deidentify_key: str = Field("", repr=False)
    """Reference to the secret that `slidewire export --deidentify` makes pseudonyms with: env:NAME or file:PATH."""
    rules: list[RuleSettings] = Field(default_factory=list)
    """Which slides of a watched archive are embedded, and how; the first that matches holds."""
    watch: WatchSettings = WatchSettings()
    """How archives are watched."""
    webhook: WebhookSettings | None = None
    """Who is told of jobs that ended."""
    metrics_port: int | None = Field(None, ge=0, le=65535)
    """Port of /metrics, /livez and /readyz of a worker or watch; 0: a free one; not set: none."""
    metrics_host: str = Field("127.0.0.1", min_length=1)
    """Address that it is bound to; they say nothing of patients, and ask for no password."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """From which level on a worker or watch tells what happens."""
    decoders: int = Field(default_factory=lambda: max(1, os.cpu_count() or 1), ge=1)
    """Threads that decode frames."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource, **named: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the TOML file behind the environment."""
        del sources
        toml = TomlConfigSettingsSource(settings_cls, toml_file=_config_file())
        return named["init_settings"], named["env_settings"], toml

    @field_validator("rules")
    @classmethod
    def _named_once(cls, rules: list[RuleSettings]) -> list[RuleSettings]:
        names = [rule.name for rule in rules]
        if len(set(names)) != len(names):
            raise ValueError("two rules have the same name")
        return rules

    @property
    def ledger(self) -> str:
        """URL of the ledger to open."""
        return self.ledger_url or f"sqlite:///{self.state_folder.absolute() / 'ledger.sqlite'}"

    @property
    def ledger_rules(self) -> Rules:
        """What the ledger goes by."""
        endpoints = {name: settings.rules for name, settings in self.endpoints.items()}
        return Rules(self.lease_s, self.patience_h * 3600.0, endpoints)

    @property
    def followed(self) -> dict[str, bool]:
        """Names of the endpoints: whether there is an event log to follow."""
        return {name: bool(settings.orthanc_url) for name, settings in self.endpoints.items()}

    @property
    def checkpoint_folder(self) -> Path:
        """Folder of the checkpoints."""
        return self.checkpoints or self.state_folder / "checkpoints"

    @property
    def weights_folder(self) -> Path:
        """Folder of the fetched weights."""
        return self.weights or self.state_folder / "weights"

    def open_endpoints(self, *, profiled: bool = True, gates: Callable[[Endpoint], Gate] | None = None) -> Endpoints:
        """Return the configured endpoints and the rule for raw URLs; with what is known of servers, unless told not."""
        cloud = Credentials("none" if self.storage_emulator else self.cloud_credentials)
        named = [settings.endpoint(name) for name, settings in self.endpoints.items()]
        return Endpoints(named, self.allowed_urls, cloud, self.profiles if profiled else None, gates)

    @property
    def hub(self) -> HubAccess:
        """Where published weights come from."""
        return HubAccess(self.hub_url or HubAccess.url, self.hub_token)

    @property
    def profiles(self) -> ProfileFolder:
        """What `slidewire doctor` keeps of servers."""
        return ProfileFolder(self.state_folder / "profiles")


def _config_file() -> Path | None:
    named = os.environ.get("SLIDEWIRE_CONFIG")
    if named:
        if not Path(named).is_file():
            raise SettingsInvalid(f"SLIDEWIRE_CONFIG names {Path(named).name}, which does not exist.")
        return Path(named)
    places = (Path(_FILE), platformdirs.user_config_path("slidewire") / _FILE)
    return next((place for place in places if place.is_file()), None)


def load_settings() -> Settings:
    """Read the settings.

    Raises
    ------
    SettingsInvalid
        A value cannot be used; names it, never shows it.
    """
    try:
        return Settings()
    except ValidationError as exc:
        first = exc.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsInvalid(f"The setting {where} cannot be used: {first['msg']}.") from None
    except (SettingsError, ValueError) as exc:
        raise SettingsInvalid(
            f"The settings cannot be read ({type(exc).__name__}): check {_FILE} and SLIDEWIRE_*."
        ) from None
