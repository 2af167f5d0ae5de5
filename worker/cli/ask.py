"""The options that describe a slide to embed, and how they become requests."""

import csv
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import typer

from connectors.tables.registry import CANONICAL, find_table
from models.domain.errors import RequestError, SourceUnreadable
from models.domain.job import Lane
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
_ABOUT_SOURCE = (
    "DICOMweb series URL, ENDPOINT/STUDY_UID/SERIES_UID, folder of DICOM files, image or slide file (PNG, JPEG, SVS, "
    "OME-TIFF, pyramidal TIFF), or a gs://, s3:// or https:// URI of one."
)
_PATCHES, _SLIDE, _RESULT = "Which patches", "How the slide is read", "Where the result goes"

Source = Annotated[str | None, typer.Argument(metavar="SOURCE", help=_ABOUT_SOURCE, show_default=False)]
Encoder = Annotated[str, typer.Option("--encoder", "-e", help="Model; slidewire encoders lists them.")]
Weights = Annotated[Path | None, typer.Option(help="File or folder of weights, instead of the encoder's own.")]
Spacing = Annotated[
    float | None,
    typer.Option(
        "--spacing-um",
        help="Micrometres per pixel of the patches; default: what the encoder is meant for, or 0.5.",
        show_default=False,
        rich_help_panel=_PATCHES,
    ),
]
Native = Annotated[
    bool, typer.Option("--native", help="The source's own pixels, whatever their spacing.", rich_help_panel=_PATCHES)
]
Upsample = Annotated[
    bool, typer.Option("--upsample", help="Interpolate if the slide is coarser than asked.", rich_help_panel=_PATCHES)
]
PatchPx = Annotated[
    int | None,
    typer.Option(
        "--patch-px",
        help="Side of a patch in pixels; default: what the encoder is meant for, or 224.",
        show_default=False,
        rich_help_panel=_PATCHES,
    ),
]
StridePx = Annotated[
    int | None, typer.Option("--stride-px", help="Between patches; default: side by side.", rich_help_panel=_PATCHES)
]
AllPatches = Annotated[
    bool, typer.Option("--all-patches", help="The whole grid, glass and all.", rich_help_panel=_PATCHES)
]
MinTissue = Annotated[
    float, typer.Option("--min-tissue", help="Least share of a patch that is tissue, 0 to 1.", rich_help_panel=_PATCHES)
]
Tissue = Annotated[
    Literal["otsu", "ez-wsi"],
    typer.Option("--tissue", help="How tissue is found in the slide.", rich_help_panel=_PATCHES),
]
Mask = Annotated[
    Path | None,
    typer.Option(
        help="Tissue from a file instead: an image over the whole slide (not 0: tissue), or a DICOM Segmentation.",
        rich_help_panel=_PATCHES,
    ),
]
Regions = Annotated[
    Path | None,
    typer.Option(
        help="Only inside these polygons: GeoJSON in level-0 pixels, as QuPath exports.", rich_help_panel=_PATCHES
    ),
]
Coordinates = Annotated[
    Path | None,
    typer.Option(
        help="CSV with columns x,y: upper left corners in level-0 pixels.",
        show_default=False,
        rich_help_panel=_PATCHES,
    ),
]
Request = Annotated[
    Path | None,
    typer.Option(
        "--request",
        help="Path Foundation request JSON, in place of SOURCE and its patches.",
        rich_help_panel=_PATCHES,
    ),
]
OpticalPath = Annotated[
    str, typer.Option("--optical-path", help="Identifier, if there are several.", rich_help_panel=_SLIDE)
]
FocalPlane = Annotated[
    str,
    typer.Option("--focal-plane", help="Number from 1, or middle, if there are several.", rich_help_panel=_SLIDE),
]
SpacingSource = Annotated[
    Literal["imaged-volume", "pixel-spacing"] | None,
    typer.Option("--spacing-from", help="Which to believe if they contradict each other.", rich_help_panel=_SLIDE),
]
MissingFrames = Annotated[
    Missing,
    typer.Option("--missing", help="Frames that cannot be had: end the job, or leave holes.", rich_help_panel=_SLIDE),
]
Color = Annotated[
    ColorProfile,
    typer.Option(
        "--color-profile",
        help="Colour space to bring the pixels to, by the slide's ICC profile.",
        rich_help_panel=_SLIDE,
    ),
]
RequireProfile = Annotated[
    bool,
    typer.Option("--require-profile", help="Refuse a slide without a usable ICC profile.", rich_help_panel=_SLIDE),
]
Options = Annotated[list[str] | None, typer.Option("--encoder-option", metavar="KEY=VALUE", help="Of the encoder.")]
Out = Annotated[
    str,
    typer.Option(
        "--out",
        "-o",
        metavar="FOLDER_OR_URI",
        help=f"Where the table goes; without --write-back: {DEFAULT_OUT}.",
        rich_help_panel=_RESULT,
    ),
]
WriteBack = Annotated[
    bool,
    typer.Option("--write-back", help="Store annotations and report in the slide's PACS.", rich_help_panel=_RESULT),
]
Dicom = Annotated[
    bool,
    typer.Option("--dicom", help="Also leave annotations and report as files in --out.", rich_help_panel=_RESULT),
]
Picture = Annotated[
    bool,
    typer.Option("--picture", help="Also leave a picture of the embeddings in --out.", rich_help_panel=_RESULT),
]
Tables = Annotated[
    list[str] | None,
    typer.Option(
        "--table",
        metavar="NAME",
        help="Also as numpy, trident, clam, stamp, slide2vec or lazyslide in --out; may be repeated.",
        rich_help_panel=_RESULT,
    ),
]
Maps = Annotated[
    bool,
    typer.Option(
        "--maps", help="Also a Parametric Map, beside the annotations (--write-back, --dicom).", rich_help_panel=_RESULT
    ),
]
AnnotationsTaken = Annotated[
    Annotations,
    typer.Option(
        "--annotations",
        help="If the PACS refuses annotations: end the job, or store the report alone (the table has the values).",
        rich_help_panel=_RESULT,
    ),
]
Urgency = Annotated[Lane, typer.Option("--lane", help="How urgent it is.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@dataclass(frozen=True, slots=True)
class Asked:
    """The options as they were given, by the names of the command's parameters."""

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
        # Without a word about where to, into a folder here.
        folder = self.out or ("" if self.write_back else DEFAULT_OUT)
        tables = tuple(sorted({find_table(name).name for name in self.table or ()} - {CANONICAL}))
        output = OutputSpec(
            folder, self.write_back, self.dicom, self.picture, tables, maps=self.maps, annotations=self.annotations
        )
        if self.request is not None:
            return self._from_file(self.request, output)
        if not self.source:
            raise RequestError("Name a SOURCE to embed, or give a patch request with --request.")
        if self.native and self.spacing_um is not None:
            raise RequestError("--native and --spacing-um contradict each other: give one.")
        if self.all_patches and self.coordinates is not None:
            raise RequestError("--all-patches and --coordinates contradict each other: give one.")
        return [self._request(self.source, output, self._patches())]

    def _patches(self) -> PatchSpec:
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
