"""A strict stand-in of the few functions of timm that are used, for where timm cannot be imported.

It refuses what timm 1.0.31 refuses, in the same way (tried), and builds one tiny network under each name it knows.
"""

from dataclasses import dataclass, field, replace
from types import ModuleType, SimpleNamespace
from typing import Any


@dataclass(frozen=True)
class Config:
    """The fields of timm's PretrainedCfg that are read, with its defaults."""

    architecture: str = "tiny"
    tag: str = "a1_in1k"
    hf_hub_id: str | None = "timm/tiny.a1_in1k"
    hf_hub_filename: str | None = None
    input_size: tuple[int, int, int] = (3, 32, 32)
    interpolation: str = "bicubic"
    crop_pct: float = 0.95
    crop_mode: str = "center"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    classifier: str | tuple[str, ...] | None = "fc"
    license: str | None = "apache-2.0"


@dataclass
class StandIn:
    """timm with one architecture, ``tiny``, whose weights have the tag ``a1_in1k``.

    Attributes
    ----------
    config : Config
    maps : bool
        The network gives feature maps, as some of timm's do.
    """

    config: Config = field(default_factory=Config)
    maps: bool = False

    def module(self) -> ModuleType:
        """Return what takes timm's place."""
        module = ModuleType("timm")
        module.is_model = lambda name: name == self.config.architecture  # type: ignore[attr-defined]
        module.create_model = self._create  # type: ignore[attr-defined]
        module.models = SimpleNamespace(get_pretrained_cfg=self._config)  # type: ignore[attr-defined]
        return module

    def changed(self, **fields: Any) -> None:
        """Let the published weights say something else."""
        self.config = replace(self.config, **fields)

    def _config(self, name: str) -> Config | None:
        architecture, dot, tag = name.partition(".")
        if architecture != self.config.architecture:
            return None
        if dot and tag != self.config.tag:
            raise RuntimeError(f"Invalid pretrained tag ({tag}) for {architecture}.")
        return self.config

    def _create(self, name: str, *, pretrained: bool, num_classes: int) -> Any:
        from torch import nn

        assert (pretrained, num_classes) == (False, 0)  # nothing is downloaded, and the head is left out
        if name != self.config.architecture:
            raise RuntimeError(f"Unknown model ({name})")
        layers = [nn.Conv2d(3, 6, 4, 4), nn.BatchNorm2d(6), nn.ReLU()]
        return nn.Sequential(*layers) if self.maps else nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
