"""What was asked of a slide, as it was written, and how that becomes requests: what is left open is the encoder's."""

import csv
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from connectors.tables.registry import CANONICAL, find_table
from models.domain.errors import RequestError, SourceUnreadable
from models.domain.request import (
    DEFAULT_TISSUE_FRACTION,
    Annotations,
    ColorProfile,
    EmbedRequest,
    Missing,
    OutputSpec,
    PatchSpec,
)
from models.domain.slide import Reading
from models.encoders import registry

DEFAULT_OUT = "slidewire-out"


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked, by the names of the commands' parameters."""

    source: str | None
    encoder: str
    weights: Path | None = None
    spacing_um: float | None = None
    native: bool = False
    patch_px: int | None = None
    stride_px: int | None = None
    all_patches: bool = False
    min_tissue: float = DEFAULT_TISSUE_FRACTION
    coordinates: Path | None = None
    encoder_option: list[str] | None = None
    request: Path | None = None
    out: str = ""
    write_back: bool = False
    dicom: bool = False
    picture: bool = False
    table: list[str] | None = None
    maps: bool = False
    annotations: Annotations = "required"
    upsample: bool = False
    tissue: Literal["otsu", "ez-wsi"] = "otsu"
    mask: Path | None = None
    regions: Path | None = None
    optical_path: str = ""
    focal_plane: str = ""
    spacing_from: Literal["imaged-volume", "pixel-spacing"] | None = None
    missing: Missing = "error"
    color_profile: ColorProfile = "none"
    require_profile: bool = False

    def requests(self) -> list[EmbedRequest]:
        """Return the requests they stand for: one, or one an instance of a request file.

        Raises
        ------
        RequestError
            They contradict each other.
        """
        output = self.output()
        if self.request is not None:
            return self._from_file(self.request, output)
        if not self.source:
            raise RequestError("Name a SOURCE to embed, or give a patch request with --request.")
        if self.native and self.spacing_um is not None:
            raise RequestError("--native and --spacing-um contradict each other: give one.")
        if self.all_patches and self.coordinates is not None:
            raise RequestError("--all-patches and --coordinates contradict each other: give one.")
        return [self._request(self.source, output, self.patches())]

    def output(self) -> OutputSpec:
        """Return where the result goes: without a word about it, into a folder here."""
        folder = self.out or ("" if self.write_back else DEFAULT_OUT)
        tables = tuple(sorted({find_table(name).name for name in self.table or ()} - {CANONICAL}))
        return OutputSpec(
            folder, self.write_back, self.dicom, self.picture, tables, maps=self.maps, annotations=self.annotations
        )

    def patches(self) -> PatchSpec:
        """Return which patches."""
        files = [path for path in (self.mask, self.regions) if path is not None]
        everything = self.all_patches or self.coordinates is not None
        if len(files) > 1 or (files and (everything or self.tissue != "otsu")):
            raise RequestError("--mask, --regions, --tissue, --all-patches and --coordinates each choose: give one.")
        meant = registry.find(self.encoder).spec
        spacing_um = meant.spacing_um if self.spacing_um is None else self.spacing_um
        return PatchSpec(
            patch_px=meant.patch_px if self.patch_px is None else self.patch_px,
            stride_px=self.stride_px,
            spacing_um=None if self.native else spacing_um,
            tissue_fraction=None if everything else self.min_tissue,
            coordinates=read_coordinates(self.coordinates) if self.coordinates else None,
            upsample=self.upsample,
            missing=self.missing,
            tissue_method="mask" if self.mask else "regions" if self.regions else self.tissue,
            tissue_file=str(files[0]) if files else "",
            color_profile=self.color_profile,
            color_required=self.require_profile,
        )

    def _from_file(self, file: Path, output: OutputSpec) -> list[EmbedRequest]:
        from worker.patch_request import read_patch_request

        given = {
            "SOURCE": self.source,
            "--coordinates": self.coordinates,
            "--spacing-um": self.spacing_um,
            "--native": self.native,
            "--stride-px": self.stride_px,
            "--all-patches": self.all_patches,
            "--upsample": self.upsample,
            "--mask": self.mask,
            "--regions": self.regions,
        }
        clashing = [name for name, value in given.items() if value is not None and value is not False]
        if clashing:
            raise RequestError(f"--request names slide and patches itself: leave out {', '.join(clashing)}.")
        patches = PatchSpec(
            patch_px=registry.find(self.encoder).spec.patch_px if self.patch_px is None else self.patch_px,
            missing=self.missing,
            color_profile=self.color_profile,
            color_required=self.require_profile,
        )
        return read_patch_request(file, self._request("", output, patches))

    def _request(self, source: str, output: OutputSpec, patches: PatchSpec) -> EmbedRequest:
        pairs = [option.partition("=") for option in self.encoder_option or ()]
        if any(not name or not mark for name, mark, _ in pairs):
            raise RequestError("An encoder option is KEY=VALUE.")
        options = tuple(sorted((name, value) for name, _, value in pairs))
        reading = Reading(self.optical_path, self.focal_plane, self.spacing_from or "")
        return EmbedRequest(source, self.encoder, output, patches, str(self.weights or ""), options, reading=reading)


FIELDS = frozenset(field.name for field in fields(Asked))


def read_coordinates(path: Path) -> tuple[tuple[int, int], ...]:
    """Read a CSV with columns ``x`` and ``y`` (others are ignored): whole numbers, level-0 pixels.

    Raises
    ------
    RequestError
        Names the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if not {"x", "y"} <= set(rows.fieldnames or ()):
                raise RequestError(f"{path.name} has no columns x and y in its first line.")
            found = []
            for row in rows:
                try:
                    found.append((int(row["x"]), int(row["y"])))
                except (TypeError, ValueError):
                    raise RequestError(f"{path.name}, line {rows.line_num}: x and y must be whole numbers.") from None
    except OSError as exc:
        raise SourceUnreadable(f"{path.name} cannot be read: {exc.strerror}.") from exc
    except (UnicodeDecodeError, csv.Error) as exc:
        raise RequestError(f"{path.name} is no CSV text.") from exc
    return tuple(found)
