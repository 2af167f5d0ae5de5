"""The options that describe a slide to embed, and how they become requests."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from models.domain.errors import RequestError, SourceUnreadable
from models.domain.request import (
    DEFAULT_PATCH_PX,
    DEFAULT_SPACING_UM,
    DEFAULT_TISSUE_FRACTION,
    EmbedRequest,
    OutputSpec,
    PatchSpec,
)

DEFAULT_OUT = "slidewire-out"
_ABOUT_SOURCE = (
    "DICOMweb series URL, ENDPOINT/STUDY_UID/SERIES_UID, folder of DICOM files, image file, or gs://BUCKET/OBJECT."
)

Source = Annotated[str | None, typer.Argument(metavar="SOURCE", help=_ABOUT_SOURCE, show_default=False)]
Encoder = Annotated[str, typer.Option("--encoder", "-e", help="Model; slidewire encoders lists them.")]
Weights = Annotated[Path | None, typer.Option(help="File of weights, instead of the encoder's own.")]
Spacing = Annotated[
    float | None,
    typer.Option("--spacing-um", help=f"Micrometres per pixel of the patches.  [default: {DEFAULT_SPACING_UM}]"),
]
Native = Annotated[bool, typer.Option("--native", help="The source's own pixels, whatever their spacing.")]
PatchPx = Annotated[int, typer.Option("--patch-px", help="Side of a patch in pixels.")]
StridePx = Annotated[int | None, typer.Option("--stride-px", help="Between patches; default: side by side.")]
AllPatches = Annotated[bool, typer.Option("--all-patches", help="The whole grid, glass and all.")]
MinTissue = Annotated[float, typer.Option("--min-tissue", help="Least share of a patch that is tissue, 0 to 1.")]
Coordinates = Annotated[
    Path | None, typer.Option(help="CSV with columns x,y: upper left corners in level-0 pixels.", show_default=False)
]
Options = Annotated[list[str] | None, typer.Option("--encoder-option", metavar="KEY=VALUE", help="Of the encoder.")]
Request = Annotated[
    Path | None, typer.Option("--request", help="Path Foundation request JSON, in place of SOURCE and its patches.")
]
Out = Annotated[
    str,
    typer.Option(
        "--out", "-o", metavar="FOLDER_OR_URI", help=f"Where the table goes; without --write-back: {DEFAULT_OUT}."
    ),
]
WriteBack = Annotated[bool, typer.Option("--write-back", help="Store annotations and report in the slide's PACS.")]
Dicom = Annotated[bool, typer.Option("--dicom", help="Also leave annotations and report as files in --out.")]
Picture = Annotated[bool, typer.Option("--picture", help="Also leave a picture of the embeddings in --out.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@dataclass(frozen=True, slots=True)
class Asked:
    """The options as they were given."""

    source: str | None
    encoder: str
    weights: Path | None = None
    spacing_um: float | None = None
    native: bool = False
    patch_px: int = DEFAULT_PATCH_PX
    stride_px: int | None = None
    all_patches: bool = False
    min_tissue: float = DEFAULT_TISSUE_FRACTION
    coordinates: Path | None = None
    options: tuple[str, ...] = ()
    request: Path | None = None
    out: str = ""
    write_back: bool = False
    dicom: bool = False
    picture: bool = False

    def requests(self) -> list[EmbedRequest]:
        """Return the requests they stand for: one, or one an instance of a request file.

        Raises
        ------
        RequestError
            They contradict each other.
        """
        # Without a word about where to, into a folder here.
        folder = self.out or ("" if self.write_back else DEFAULT_OUT)
        output = OutputSpec(folder, self.write_back, self.dicom, self.picture)
        if self.request is not None:
            return self._from_file(self.request, output)
        if not self.source:
            raise RequestError("Name a SOURCE to embed, or give a patch request with --request.")
        if self.native and self.spacing_um is not None:
            raise RequestError("--native and --spacing-um contradict each other: give one.")
        if self.all_patches and self.coordinates is not None:
            raise RequestError("--all-patches and --coordinates contradict each other: give one.")
        spacing_um = DEFAULT_SPACING_UM if self.spacing_um is None else self.spacing_um
        patches = PatchSpec(
            patch_px=self.patch_px,
            stride_px=self.stride_px,
            spacing_um=None if self.native else spacing_um,
            tissue_fraction=None if self.all_patches or self.coordinates else self.min_tissue,
            coordinates=read_coordinates(self.coordinates) if self.coordinates else None,
        )
        return [self._request(self.source, output, patches)]

    def _from_file(self, file: Path, output: OutputSpec) -> list[EmbedRequest]:
        from worker.patch_request import read_patch_request

        given = {
            "SOURCE": self.source,
            "--coordinates": self.coordinates,
            "--spacing-um": self.spacing_um,
            "--native": self.native,
            "--stride-px": self.stride_px,
            "--all-patches": self.all_patches,
        }
        clashing = [name for name, value in given.items() if value is not None and value is not False]
        if clashing:
            raise RequestError(f"--request names slide and patches itself: leave out {', '.join(clashing)}.")
        return read_patch_request(file, self._request("", output, PatchSpec(patch_px=self.patch_px)))

    def _request(self, source: str, output: OutputSpec, patches: PatchSpec) -> EmbedRequest:
        pairs = [option.partition("=") for option in self.options]
        if any(not name or not mark for name, mark, _ in pairs):
            raise RequestError("An encoder option is KEY=VALUE.")
        options = tuple(sorted((name, value) for name, _, value in pairs))
        return EmbedRequest(source, self.encoder, output, patches, str(self.weights or ""), options)


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
