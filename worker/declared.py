"""The encoders that the settings declare, made known to this process."""

from collections.abc import Mapping
from typing import Final

from models.domain.errors import RequestError, SettingsInvalid
from models.encoders import registry
from models.encoders.onnx_runtime import OnnxModel
from models.encoders.protocol import EncoderSpec, Licence, Model
from worker.settings import EncoderSettings, Settings, load_settings

_FAMILIES: Final = {"onnx": "a network in ONNX", "remote": "on a server"}
_EXTRAS: Final = {"onnx": "onnx", "remote": ""}


def open_settings() -> Settings:
    """Read the settings, and register the encoders that they declare.

    Raises
    ------
    SettingsInvalid
    """
    settings = load_settings()
    register_declared(settings.encoders)
    return settings


def register_declared(encoders: Mapping[str, EncoderSettings]) -> None:
    """Register encoders by name; those that are known as they are declared stay.

    Raises
    ------
    SettingsInvalid
        A name is taken, or none; or an encoder cannot be as it is declared.
    """
    for name, declared in encoders.items():
        try:
            model = _model(name, declared)
            if name not in registry.names() or registry.find(name) != model:
                registry.register(model)
        except RequestError as exc:
            raise SettingsInvalid(f"The setting encoders.{name[:64]} cannot be used: {exc.message}") from None


def _model(name: str, declared: EncoderSettings) -> Model:
    if declared.server is None:
        file = None if declared.weights is None else declared.weights.expanduser().absolute()
        return OnnxModel(_spec(name, declared, tuple(declared.patches_px)), file)
    from connectors.remote_encoder import RemoteModel, patches_a_request  # EZ-WSI takes a while to import

    if patches_a_request(declared.input_px) == 0:
        raise SettingsInvalid(f"Patches of {declared.input_px} px (input_px) do not fit into a request.")
    patches_px = tuple(declared.patches_px) or (declared.input_px,)
    return RemoteModel(_spec(name, declared, patches_px), declared.server.endpoint(name))


def _spec(name: str, declared: EncoderSettings, patches_px: tuple[int, ...]) -> EncoderSpec:
    server = declared.server
    return EncoderSpec(
        name=name,
        family=_FAMILIES[declared.runtime],
        dimension=declared.dimension,
        input_px=declared.input_px,
        spacings_um=tuple(declared.spacings_um),
        mean=declared.mean,
        std=declared.std,
        interpolation="area" if server else declared.interpolation,
        extra=_EXTRAS[declared.runtime],
        licence=Licence(declared.licence),
        source=declared.source or (server.url if server else "declared in the settings"),
        revision=declared.revision,
        weights_sha256=declared.sha256,
        preprocessing_version=1,
        resize_px=declared.resize_px,
        patches_px=patches_px,
        value_range=declared.value_range,
        remote=server is not None,
    )
