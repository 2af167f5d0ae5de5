"""What a dialect holds: DICOM objects in memory, their frames, their metadata."""

from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from PIL import Image
from pydicom.encaps import generate_frames
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

_BULK_BYTES = 1024
_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"


@dataclass(frozen=True)
class Stored:
    """One object, as the file that was stored."""

    file: bytes

    @cached_property
    def dataset(self) -> pydicom.Dataset:
        """The object, whole."""
        return pydicom.dcmread(BytesIO(self.file))

    @property
    def uids(self) -> tuple[str, str, str]:
        """Study, series and instance."""
        return str(self.dataset.StudyInstanceUID), str(self.dataset.SeriesInstanceUID), self.uid

    @property
    def uid(self) -> str:
        """SOP Instance UID."""
        return str(self.dataset.SOPInstanceUID)

    @property
    def syntax(self) -> str:
        """Transfer syntax that it is stored in."""
        return str(self.dataset.file_meta.TransferSyntaxUID)

    @cached_property
    def frames(self) -> list[bytes]:
        """The encoded frames, as they are stored."""
        count = int(self.dataset.get("NumberOfFrames", 1))
        return list(generate_frames(self.dataset.PixelData, number_of_frames=count))

    def decoded(self, number: int) -> bytes:
        """Return a frame's pixels, by a decoder that is not Slidewire's."""
        return Image.open(BytesIO(self.frames[number - 1])).convert("RGB").tobytes()

    def rewritten(self, syntax: str) -> bytes:
        """Return the file in an uncompressed transfer syntax."""
        dataset = pydicom.dcmread(BytesIO(self.file))
        if "PixelData" in dataset:
            dataset.decompress(generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = {
            str(uid): uid for uid in (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
        }[syntax]
        buffer = BytesIO()
        little = {"implicit_vr": syntax == ImplicitVRLittleEndian, "little_endian": True}
        dataset.save_as(buffer, enforce_file_format=True, **little)
        return buffer.getvalue()

    def metadata(self, base: str) -> dict[str, Any]:
        """Return the DICOM JSON without pixels; large values behind a Bulk Data URI below `base`."""
        study, series, instance = self.uids

        def uri(element: pydicom.DataElement) -> str:
            place = f"studies/{study}/series/{series}/instances/{instance}"
            return f"{base}/{place}/bulkdata/{element.tag:08X}"

        header = pydicom.dcmread(BytesIO(self.file), stop_before_pixels=True)
        return header.to_json_dict(bulk_data_threshold=_BULK_BYTES, bulk_data_element_handler=uri)  # type: ignore[no-any-return]

    def bulk(self, tag: str) -> bytes | None:
        """Return the value of the first element of a tag, at any depth."""
        for element in self.dataset.iterall():
            if f"{element.tag:08X}" == tag:
                return bytes(element.value)
        return None


class Archive:
    """Objects by their UIDs.

    Parameters
    ----------
    folder : Path
        Every ``.dcm`` in it is stored at first.
    """

    def __init__(self, folder: Path) -> None:
        self.held: dict[tuple[str, str, str], Stored] = {}
        for path in sorted(folder.glob("*.dcm")):
            self.put(Stored(path.read_bytes()))

    def put(self, stored: Stored) -> None:
        """Store, over what may be there."""
        self.held[stored.uids] = stored

    def find(self, *uids: str) -> list[Stored]:
        """Return the objects below a study, or series, or one instance; all without UIDs."""
        return [stored for key, stored in self.held.items() if key[: len(uids)] == uids]

    def search(self, level: str, uids: tuple[str, ...], modality: str) -> list[dict[str, Any]]:
        """Return one entry a study, series or instance: UIDs and modality only."""
        depth = {"studies": 1, "series": 2, "instances": 3}[level]
        entries: dict[tuple[str, ...], dict[str, Any]] = {}
        for stored in self.find(*uids):
            if modality and str(stored.dataset.Modality) != modality:
                continue
            tags = dict(zip((_STUDY, _SERIES, _INSTANCE), stored.uids[:depth], strict=False))
            entry = {tag: {"vr": "UI", "Value": [uid]} for tag, uid in tags.items()}
            name = "00080061" if depth == 1 else "00080060"
            entries[stored.uids[:depth]] = {**entry, name: {"vr": "CS", "Value": [str(stored.dataset.Modality)]}}
        return list(entries.values())
