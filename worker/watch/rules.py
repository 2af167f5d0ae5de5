"""The rules of an installation as a watch goes by them: each encoder found, options and weights settled, or refused.

A watch that starts can make jobs: what would fail for every slide is found before the first one arrives.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import fsspec

from connectors.tables.registry import find_table
from models.domain.errors import (
    LicenceNotAccepted,
    RequestError,
    SettingsInvalid,
    SlidewireError,
    WeightsInvalid,
)
from models.domain.request import EmbedRequest
from models.domain.rule import Criteria, Rule, fits
from models.encoders import registry
from worker.asked import Asked
from worker.intake_settings import RuleSettings
from worker.settings import Settings
from worker.submission import Ways, settled

_EXAMPLE: Final = (
    'for example, in slidewire.toml: [[rules]] name = "all-slides", encoder = "efficientnet-lite0", write_back = true '
    "(each on a line of its own)"
)
_EXAMPLES: Final = {
    "endpoints": 'endpoints = ["pacs"]',
    "calling_aet": 'orthanc_url = "http://localhost:8042" in the endpoint',
    "encoder": 'encoder = "efficientnet-lite0"',
    "encoder_options": 'encoder_options = {precision = "fp32"}',
    "weights": 'weights = "/srv/weights/model.safetensors"',
    "patches": "patches = {spacing_um = 0.5, patch_px = 224}",
    "out": 'out = "/srv/embeddings"',
    "table": 'table = ["numpy"]',
}


def rules_of(settings: Settings, endpoint: str) -> tuple[Rule, ...]:
    """Return the rules, ready to be used for one endpoint; those that are for others match nothing of it.

    Parameters
    ----------
    settings : Settings
        The encoders that they declare are registered.
    endpoint : str
        Name of the archive that is watched.

    Raises
    ------
    SettingsInvalid
        A rule cannot be used, or there is none; names the setting.
    """
    if endpoint not in settings.endpoints:
        known = ", ".join(sorted(settings.endpoints)) or "none"
        raise SettingsInvalid(
            f"There is no endpoint {endpoint[:64]!r} in the settings (there: {known}): add [endpoints.{endpoint[:64]}] "
            'with its url, for example url = "https://pacs.example.org/dicom-web".'
        )
    if not settings.rules:
        raise SettingsInvalid(f"The setting rules is empty, and no slide would be embedded: add one, {_EXAMPLE}.")
    for rule in settings.rules:
        _check_names(rule, settings)
    if not any(_is_for(rule, endpoint) for rule in settings.rules):
        raise SettingsInvalid(f"The setting rules has none for the endpoint {endpoint!r}: add one, {_EXAMPLE}.")
    return tuple(_rule(rule, settings, endpoint) for rule in settings.rules)


def _is_for(rule: RuleSettings, endpoint: str) -> bool:
    return not rule.endpoints or any(fits(pattern, endpoint) for pattern in rule.endpoints)


def _check_names(rule: RuleSettings, settings: Settings) -> None:
    for pattern in rule.endpoints:
        if not any(fits(pattern, name) for name in settings.endpoints):
            known = ", ".join(sorted(settings.endpoints))
            raise _refused(rule, "endpoints", f"There is no endpoint {pattern!r}; configured: {known}.")


def _rule(rule: RuleSettings, settings: Settings, endpoint: str) -> Rule:
    criteria = Criteria(
        endpoints=tuple(rule.endpoints),
        modality=tuple(rule.modality),
        station=tuple(rule.station),
        container_type=tuple(rule.container_type),
        study_description=tuple(rule.study_description),
        calling_aet=tuple(rule.calling_aet),
        spacing_um=rule.spacing_um,
    )
    request = None if rule.skip or not _is_for(rule, endpoint) else _request(rule, Ways.of(settings))
    if rule.calling_aet and _is_for(rule, endpoint) and not settings.endpoints[endpoint].orthanc_url:
        said = f"Who sent a slide is known from Orthanc's event log only, and the endpoint {endpoint!r} has none."
        raise _refused(rule, "calling_aet", said)
    return Rule(rule.name, criteria, request, rule.lane)


def _request(rule: RuleSettings, ways: Ways) -> EmbedRequest:
    """Return what a rule asks of each of its slides, its source left open."""
    asked = Asked(
        source=rule.name,  # there must be one; a slide's takes its place
        encoder=rule.encoder,
        weights=rule.weights,
        **rule.patches.model_dump(),
        encoder_option=[f"{name}={value}" for name, value in rule.encoder_options.items()],
        out=rule.out,
        write_back=rule.write_back,
        dicom=rule.dicom,
        picture=rule.picture,
        table=rule.table,
        maps=rule.maps,
        annotations=rule.annotations,
    )
    with _named(rule, "encoder"):
        registry.find(rule.encoder)
    with _named(rule, "patches"):
        asked.patches()
    with _named(rule, "table"):
        for name in rule.table:
            find_table(name)
    with _named(rule, "out"):
        _check_folder(asked.output().folder)
    with _named(rule, "encoder_options"):
        [request] = asked.requests()
    return _settled(rule, replace(request, source=""), ways)


def _settled(rule: RuleSettings, request: EmbedRequest, ways: Ways) -> EmbedRequest:
    try:
        return settled(request, ways)[0]
    except WeightsInvalid as exc:
        raise _refused(rule, "weights", exc.message) from None
    except LicenceNotAccepted as exc:
        raise _refused(rule, "encoder", exc.message) from None
    except SlidewireError as exc:
        raise _refused(rule, "encoder_options", exc.message) from None


def _check_folder(folder: str) -> None:
    """Refuse what no worker could write into; whether one may, only the workers know: they may be elsewhere."""
    if "://" in folder:
        try:
            fsspec.core.url_to_fs(folder)
        except (ValueError, ImportError) as exc:
            raise RequestError("No bucket has such a URI, or what opens it is not installed.") from exc
    elif folder and any(path.exists() and not path.is_dir() for path in _upwards(Path(folder).expanduser().absolute())):
        raise RequestError("It is no folder, or lies below a file.")


def _upwards(path: Path) -> Iterator[Path]:
    yield path
    yield from path.parents


@contextmanager
def _named(rule: RuleSettings, setting: str) -> Iterator[None]:
    try:
        yield
    except SlidewireError as exc:
        raise _refused(rule, setting, exc.message) from None


def _refused(rule: RuleSettings, setting: str, why: str) -> SettingsInvalid:
    return SettingsInvalid(
        f"The setting rules.{rule.name}.{setting} cannot be used: {why} For example: {_EXAMPLES[setting]}."
    )
