"""What results cost as DICOM: beside highdicom, in memory, on disk and in a real Orthanc: ``make bench-results``.

First the annotations of 20,000 x 768, built and saved by highdicom and here, in turn, from the same numbers; the bytes
of all values and coordinates are compared. Then the peak memory of two sizes, in processes of their own; with holes,
which cost a copy; and with maps. Then, for each of four sizes: the file, its validity, and the seconds to build and
save, to read back, to STOW and WADO, and to store through the sink, which looks first and reads back afterwards.
"""

import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import requests

from connectors.dicom.readback.stored_objects import read_annotations
from connectors.dicom.result import concepts
from connectors.dicom.result.objects import build_objects
from connectors.dicom.result.result_object import ResultObject
from connectors.dicomweb import DicomWeb
from connectors.endpoints import Endpoints
from connectors.protocols import Result
from connectors.sinks.stow import StowSink
from tests.bench.results_memory import large_result
from tests.services.orthanc import Orthanc, start_orthanc
from tests.unit.connectors.dicom.results import SERIES_UID, STUDY_UID, dciodvfy, slide

ROUNDS = 5
BESIDE = (20_000, 768)
MEMORY = ((20_000, 768), (200_000, 1536))
TABLE = ((4000, 384), (4000, 768), (4000, 1536), (20_000, 384))
_BOUNDARY = "slidewire-bench"


def medians(works: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median seconds of each, run in turn after a round that warms up."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if number:
                taken[name].append(time.perf_counter() - started)
    return {name: round(statistics.median(each), 3) for name, each in taken.items()}


def annotations_of(result: Result) -> ResultObject:
    """Return the first object; the digests, which are kept once they are known, are found anew."""
    return next(build_objects(replace(result, embeddings=replace(result.embeddings))))


def save_ours(result: Result, path: Path) -> None:
    """Build and save with Slidewire."""
    with path.open("wb") as file:
        file.writelines(annotations_of(result).chunks())


def save_theirs(result: Result, path: Path) -> None:
    """Build and save with highdicom; the corners are made ready before, as an array a rectangle."""
    x, y, width, height = result.embeddings.boxes.astype(np.float32).T
    corners = np.stack([x, y, x + width, y, x + width, y + height, x, y + height], axis=1).reshape(-1, 4, 2)
    group = hd.ann.AnnotationGroup(
        number=1,
        uid=hd.UID(),
        label="embeddings",
        annotated_property_category=concepts.SPATIAL_CONCEPT,
        annotated_property_type=concepts.SELECTED_REGION,
        graphic_type=hd.ann.GraphicTypeValues.RECTANGLE,
        graphic_data=list(corners),
        algorithm_type=hd.ann.AnnotationGroupGenerationTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence("encoder", concepts.ARTIFICIAL_INTELLIGENCE, "1"),
        measurements=[
            hd.ann.Measurements(concepts.component(index), column, concepts.NO_UNITS)
            for index, column in enumerate(result.embeddings.matrix.T)
        ],
    )
    whole = hd.ann.MicroscopyBulkSimpleAnnotations(
        [slide()], "2D", [group], hd.UID(), 1, hd.UID(), 1, "Slidewire project", "benchmark", "1", "none"
    )
    whole.save_as(path)


def values_of(path: Path) -> list[bytes]:
    """Return coordinates and values of a file's first group, element by element."""
    group = pydicom.dcmread(path).AnnotationGroupSequence[0]
    columns = [item.MeasurementValuesSequence[0].FloatingPointValues for item in group.MeasurementsSequence]
    return [group.PointCoordinatesData, *columns]


def beside_highdicom(folder: Path) -> dict[str, float | bool]:
    """Compare seconds and bytes."""
    result = large_result(*BESIDE)
    ours, theirs = folder / "ours.dcm", folder / "theirs.dcm"
    seconds = medians({"ours": lambda: save_ours(result, ours), "theirs": lambda: save_theirs(result, theirs)})
    return {
        "build_save_s": seconds["ours"],
        "highdicom_build_save_s": seconds["theirs"],
        "ratio": round(seconds["theirs"] / seconds["ours"], 1),
        "same_value_bytes": values_of(ours) == values_of(theirs),
    }


def peak_memory(patches: int, components: int, folder: Path, *options: str) -> float:
    """Return the peak of building and saving as a multiple of the matrix, the matrix included."""
    command = [sys.executable, "-m", "tests.bench.results_memory", str(patches), str(components), str(folder)]
    said = subprocess.run([*command, *options], stdout=subprocess.PIPE, text=True, check=True).stdout
    return float(json.loads(said)["multiple"])


def stow(server: Orthanc, content: bytes) -> None:
    """Store one file as it is, as any client may."""
    head = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    kind = f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'
    body = head + content + f"\r\n--{_BOUNDARY}--\r\n".encode()
    url = f"{server.dicomweb}/studies"
    answer = requests.post(
        url, data=body, headers={"Content-Type": kind, "Accept": "application/dicom+json"}, timeout=60
    )
    answer.raise_for_status()


def row(patches: int, components: int, server: Orthanc, folder: Path) -> dict[str, float]:
    """Return one row of the table."""
    result, path = large_result(patches, components), folder / "row.dcm"
    save_ours(result, path)
    content, made = path.read_bytes(), annotations_of(result)
    lines = dciodvfy(content, folder)
    endpoints = Endpoints()
    ref = endpoints.locate(f"{server.dicomweb}/studies/{STUDY_UID}/series/{SERIES_UID}")
    sink, web = StowSink(endpoints.of_ref(ref), STUDY_UID), DicomWeb(endpoints.of_ref(ref))
    uids = made.dataset.SeriesInstanceUID, made.dataset.SOPInstanceUID
    url = "{}/studies/{}/series/{}/instances/{}".format(server.dicomweb, STUDY_UID, *uids)
    clear = "clear"  # an Orthanc that has the instance answers a STOW without storing anything
    seconds = medians({
        "build_save_s": lambda: save_ours(result, path),
        "read_s": lambda: read_annotations(pydicom.dcmread(path)),
        clear: server.clear,
        "stow_s": lambda: stow(server, content),
        "wado_s": lambda: web.instance(url),
        f"{clear} again": server.clear,
        "store_verified_s": lambda: sink.store(made),
    })  # fmt: skip
    sink.close()
    web.session.close()
    values_mb = 4 * patches * components / 1e6
    return {
        "raw_mb": round(values_mb, 2),
        "file_mb": round(len(content) / 1e6, 2),
        "overhead_percent": round(100 * (len(content) / 1e6 / values_mb - 1), 1),
        **{name: value for name, value in seconds.items() if not name.startswith(clear)},
        "dciodvfy_errors": sum(line.startswith("Error") for line in lines),
    }


def main() -> None:
    """Measure, print tables, and one line of JSON."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        beside = beside_highdicom(folder)
        sys.stdout.write(f"{BESIDE[0]} x {BESIDE[1]} beside highdicom: {beside}\n")
        memory = {}
        for size in MEMORY:
            for options in ((), ("--holes",), ("--maps",)):
                label = " ".join([f"{size[0]}x{size[1]}", *options])
                memory[label] = peak_memory(*size, folder, *options)
                sys.stdout.write(f"peak memory of {label}: {memory[label]} times the matrix\n")
        server = start_orthanc(folder / "orthanc")
        try:
            table = {f"{size[0]}x{size[1]}": row(*size, server, folder) for size in TABLE}
        finally:
            server.stop()
        for label, figures in table.items():
            sys.stdout.write(f"{label:>10}: " + ", ".join(f"{key} {value}" for key, value in figures.items()) + "\n")
    sys.stdout.write(json.dumps({"beside": beside, "memory": memory, "table": table}) + "\n")


if __name__ == "__main__":
    main()
