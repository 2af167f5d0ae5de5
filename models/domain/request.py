"""What was asked: a slide, an encoder, which patches, and where the result goes."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, Self

from models.domain.errors import RequestError, VersionUnknown
from models.domain.slide import Reading

CoordinateSpace = Literal["level-0", "instance"]
Missing = Literal["error", "mask"]
ColorProfile = Literal["none", "srgb", "adobergb", "rommrgb", "displayp3"]
TissueMethod = Literal["otsu", "ez-wsi", "mask", "regions"]
Annotations = Literal["required", "if-accepted"]

FORMAT: Final = 1
"""Number of the form in which a job lies in the ledger: the request, and plan and provenance beside it.

Raised when a worker that does not know of a change would do the job otherwise, though it knows each field by name. A
new field needs no new number: who does not know it gives the job back.
"""
DEFAULT_SPACING_UM = 0.5
DEFAULT_PATCH_PX = 224
DEFAULT_TISSUE_FRACTION = 0.1
_NEWER = "A newer Slidewire submitted this job, and asks for something that this one does not know: upgrade this one."


def check_known(known: Iterable[str], found: Iterable[str]) -> None:
    """Refuse fields that are not known here.

    Raises
    ------
    VersionUnknown
    """
    if not set(found) <= set(known):
        raise VersionUnknown(_NEWER)


@dataclass(frozen=True, slots=True)
class PatchSpec:
    """Which patches of a slide to embed.

    Parameters
    ----------
    patch_px : int
        Side of a patch as the encoder sees it.
    stride_px : int or None
        Distance between patch origins at the same spacing; None: `patch_px`, patches side by side.
    spacing_um : float or None
        Micrometres per pixel of the patches; None: the source's own pixels (``--native``).
    tissue_fraction : float or None
        Least share of a patch's area that must be tissue; None: all patches of the grid.
    coordinates : tuple of (int, int) or None
        Patch origins (x, y) instead of a grid.
    coordinate_space : str
        What `coordinates` count in: pixels of level 0, or of the instances that the reference names
        (Path Foundation's request).
    image_px : (int, int) or None
        Width and height that the image is brought to first, which `coordinates` then count in (Path
        Foundation's ``image_dimensions``).
    upsample : bool
        If the slide has nothing as fine as `spacing_um`, interpolate; otherwise that is refused.
    missing : str
        What becomes of a patch whose frames cannot be had or decoded: ``error`` ends the job, ``mask`` leaves
        the patch out and records the hole.
    tissue_method : str
        How the tissue is found: ``otsu`` or ``ez-wsi`` in the slide itself, ``mask`` or ``regions`` from `tissue_file`.
    tissue_file : str
        An image or DICOM Segmentation over the slide (``mask``), or GeoJSON polygons in level-0 pixels (``regions``).
    color_profile : str
        Colour space the pixels are brought to by the slide's ICC profile; ``none``: as they are.
    color_required : bool
        Refuse a slide whose profile is missing or broken; otherwise its colours are left as they are, and noted.
    """

    patch_px: int = DEFAULT_PATCH_PX
    stride_px: int | None = None
    spacing_um: float | None = DEFAULT_SPACING_UM
    tissue_fraction: float | None = DEFAULT_TISSUE_FRACTION
    coordinates: tuple[tuple[int, int], ...] | None = None
    coordinate_space: CoordinateSpace = "level-0"
    image_px: tuple[int, int] | None = None
    upsample: bool = False
    missing: Missing = "error"
    tissue_method: TissueMethod = "otsu"
    tissue_file: str = ""
    color_profile: ColorProfile = "none"
    color_required: bool = False

    def __post_init__(self) -> None:
        if self.patch_px < 1 or self.patch_px > 4096:
            raise RequestError(f"A patch of {self.patch_px} px: give a side of 1 to 4096 px.")
        if self.stride_px is not None and self.stride_px < 1:
            raise RequestError(f"A stride of {self.stride_px} px: give 1 or more.")
        if self.spacing_um is not None and not 0.01 <= self.spacing_um <= 1000:
            raise RequestError(f"A spacing of {self.spacing_um} um/px: give 0.01 to 1000, or ask for native.")
        if self.tissue_fraction is not None and not 0 <= self.tissue_fraction <= 1:
            raise RequestError(f"A tissue fraction of {self.tissue_fraction}: give 0 to 1.")
        if self.coordinates is not None and not self.coordinates:
            raise RequestError("The list of coordinates is empty: give at least one patch.")
        if (self.tissue_method in {"mask", "regions"}) != bool(self.tissue_file):
            raise RequestError("A mask and regions come from a file: give --mask FILE or --regions FILE.")
        if self.color_required and self.color_profile == "none":
            raise RequestError("--require-profile needs a colour space to bring the slide to: give --color-profile.")

    @property
    def step_px(self) -> int:
        """Distance between patch origins, in pixels at the requested spacing."""
        return self.stride_px or self.patch_px


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """Where the result goes.

    Parameters
    ----------
    folder : str
        Folder or bucket URI that the table goes to; "" for none.
    write_back : bool
        Store annotations and report in the PACS that the slide came from.
    dicom_files : bool
        Also leave annotations and report as files in `folder`.
    picture : bool
        Also leave a picture of the slide beside its embeddings in `folder`.
    tables : tuple of str
        Further tables in `folder`, by their names in the registry, sorted; the Parquet file is always there.
    maps : bool
        Also make a Parametric Map, wherever annotations go.
    annotations : str
        What becomes of a result whose annotations the PACS refuses: ``required`` ends the job, ``if-accepted`` stores
        the report alone, which then says so; the values are in the table.
    """

    folder: str = ""
    write_back: bool = False
    dicom_files: bool = False
    picture: bool = False
    tables: tuple[str, ...] = ()
    maps: bool = False
    annotations: Annotations = "required"

    def __post_init__(self) -> None:
        if not self.folder and not self.write_back:
            raise RequestError("The result would go nowhere: give an output folder (--out) or --write-back.")
        if (self.dicom_files or self.picture) and not self.folder:
            raise RequestError("DICOM files and the picture go into the output folder: give one with --out.")
        if (self.tables or self.annotations == "if-accepted") and not self.folder:
            raise RequestError("Tables go into the output folder: give one with --out.")
        if self.maps and not (self.write_back or self.dicom_files):
            raise RequestError("A map is a DICOM object: give --write-back or --dicom with --maps.")


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """One slide to embed.

    Parameters
    ----------
    source : str
        A DICOMweb series URL, ``ENDPOINT/STUDY_UID/SERIES_UID``, a folder of DICOM files, an image file,
        or ``gs://BUCKET/OBJECT``.
    encoder : str
        Name in the encoder registry.
    output : OutputSpec
    patches : PatchSpec
    weights : str
        Path of the weights; "" for the encoder's own.
    options : tuple of (str, str)
        Options of the encoder, sorted by name.
    instance_uids : tuple of str
        Only the level that these instances make up (Path Foundation's request).
    notes : tuple of str
        What of the original request was not done as asked.
    reading : Reading
        Choices that the slide leaves.
    """

    source: str
    encoder: str
    output: OutputSpec
    patches: PatchSpec = field(default_factory=PatchSpec)
    weights: str = ""
    options: tuple[tuple[str, str], ...] = ()
    instance_uids: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    reading: Reading = field(default_factory=Reading)

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` reads back, with the number of their form."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a request from `to_json`'s data; without a number they are of form 1.

        Raises
        ------
        VersionUnknown
            A newer Slidewire wrote them.
        """
        if data.get("format", 1) > FORMAT:
            raise VersionUnknown(_NEWER)
        fields = {name: value for name, value in data.items() if name != "format"}
        check_known(cls.__slots__, fields)
        for kind, part in ((PatchSpec, "patches"), (OutputSpec, "output"), (Reading, "reading")):
            check_known(kind.__slots__, fields[part])
        patches = dict(fields["patches"])
        if patches["coordinates"] is not None:
            patches["coordinates"] = tuple((x, y) for x, y in patches["coordinates"])
        if patches["image_px"] is not None:
            patches["image_px"] = tuple(patches["image_px"])
        fields["patches"] = PatchSpec(**patches)
        output = dict(fields["output"])
        output["tables"] = tuple(output.get("tables", ()))
        fields["output"] = OutputSpec(**output)
        fields["options"] = tuple((name, value) for name, value in fields["options"])
        fields["instance_uids"] = tuple(fields["instance_uids"])
        fields["notes"] = tuple(fields["notes"])
        fields["reading"] = Reading(**fields["reading"])
        return cls(**fields)
