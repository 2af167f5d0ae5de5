"""The options that describe a slide to embed."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from models.domain.job import Lane
from models.domain.request import Annotations, ColorProfile, Missing
from worker.asked import DEFAULT_OUT

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
