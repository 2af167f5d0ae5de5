"""A plan: the exact patches of a job, frozen at submission, and how they are divided into batches and shards."""

import json
import struct
import zlib
from dataclasses import dataclass
from typing import Self

import numpy as np

from models.domain.embedding import Embeddings
from models.domain.errors import ResultCorrupt
from models.domain.patch import PatchGrid, Rows
from models.domain.request import ColorProfile, Missing
from models.domain.slide import Level, Slide

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be read, in reading order.

    Parameters
    ----------
    slide : Slide
    grid : PatchGrid
    grid_patches : int
        Patches before the selection by tissue.
    batch_size : int
        Patches a call of the encoder; fixed here so that a job that is resumed gives the same bytes.
    notes : tuple of str
        What was decided on the way.
    missing : str
        Whether a patch whose pixels cannot be had ends the job (``error``) or is a hole (``mask``).
    color_profile : str
        Colour space that the pixels are brought to; ``none``: as they are.
    icc_sha256 : str
        Digest of the ICC profile that they come from; "" if none is used.
    """

    slide: Slide
    grid: PatchGrid
    grid_patches: int
    batch_size: int
    notes: tuple[str, ...]
    missing: Missing = "error"
    color_profile: ColorProfile = "none"
    icc_sha256: str = ""

    @property
    def level(self) -> Level:
        """The level that is read."""
        return self.slide.levels[self.grid.level]

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of level 0 for one pixel of the level that is read (x, y)."""
        finest = self.slide.levels[0]
        return finest.width_px / self.level.width_px, finest.height_px / self.level.height_px

    def step_px(self, stride_px: int) -> tuple[float, float] | None:
        """Return a stride of the patches in pixels of the level that is read (x, y); None without a spacing."""
        ours, theirs = self.grid.spacing_um, self.level.spacing_um
        return (stride_px * ours[0] / theirs[0], stride_px * ours[1] / theirs[1]) if ours and theirs else None

    def shards(self, patches_a_shard: int) -> tuple[tuple[int, int], ...]:
        """Divide the patches into shards of whole batches: (start, stop) in reading order."""
        size = max(1, patches_a_shard // self.batch_size) * self.batch_size
        return tuple((start, min(start + size, len(self.grid))) for start in range(0, len(self.grid), size))

    def assemble(self, rows: Rows) -> Embeddings:
        """Bring rows from reading order into the order in which the patches were asked for."""
        back = np.argsort(self.grid.rows, kind="stable")
        boxes = self.grid.boxes[back]
        px = boxes[:, :2] * np.asarray(self.scale)
        spacing = self.slide.levels[0].spacing_um
        um = px * np.asarray(spacing) if spacing else None
        rows = rows[back]
        return Embeddings(np.ascontiguousarray(rows.matrix), boxes, px, um, rows.fallbacks)

    def to_bytes(self) -> bytes:
        """Return the plan for the ledger; the same plan gives the same bytes."""
        head = json.dumps(
            {
                "slide": self.slide.to_json(),
                "level": self.grid.level,
                "patch_px": self.grid.patch_px,
                "spacing_um": self.grid.spacing_um,
                "grid_patches": self.grid_patches,
                "batch_size": self.batch_size,
                "notes": self.notes,
                "missing": self.missing,
                "color_profile": self.color_profile,
                "icc_sha256": self.icc_sha256,
                "patches": len(self.grid),
            },
            sort_keys=True,
        ).encode()
        body = self.grid.boxes.astype("<i4").tobytes() + self.grid.rows.astype("<i8").tobytes()
        return zlib.compress(_LENGTH.pack(len(head)) + head + body, 6)  # with a checksum over all of it

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Rebuild a plan from `to_bytes`.

        Raises
        ------
        ResultCorrupt
            The bytes are no plan.
        """
        try:
            whole = zlib.decompress(data)
            (length,) = _LENGTH.unpack_from(whole)
            head = json.loads(whole[_LENGTH.size : _LENGTH.size + length])
            body = whole[_LENGTH.size + length :]
            count = head["patches"]
            boxes = np.frombuffer(body, "<i4", count * 4).reshape(count, 4)
            rows = np.frombuffer(body, "<i8", count, offset=boxes.nbytes)
            spacing = tuple(head["spacing_um"]) if head["spacing_um"] else None
            grid = PatchGrid(head["level"], head["patch_px"], spacing, boxes, rows)
            slide = Slide.from_json(head["slide"])
            notes = tuple(head["notes"])
            how = head["missing"], head["color_profile"], head["icc_sha256"]
            return cls(slide, grid, head["grid_patches"], head["batch_size"], notes, *how)
        except (struct.error, ValueError, KeyError, TypeError, zlib.error) as exc:
            raise ResultCorrupt(
                "The plan in the ledger is damaged: cancel the job and submit the slide again."
            ) from exc
