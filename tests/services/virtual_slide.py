"""A DICOMweb server that holds a slide of any size without having it: its frames are made of a few tiles, as asked."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

STUDY, SERIES, INSTANCE = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2", "1.2.826.0.1.3680043.8.498.3"
FRAME_PX = 256
_SYNTAX = "1.2.840.10008.1.2.4.50"
_BOUNDARY = "virtual-slide"


def tile_colour(index: int) -> tuple[int, int, int]:
    """Return the RGB of the tile at an index: neighbours differ, and every 64th is the same."""
    return 40 + index % 64 * 3, 200 - index % 32 * 5, 90 + index % 16 * 9


class VirtualSlide(ThreadingHTTPServer):
    """Serves one level of `side_px` x `side_px`, 0.5 um/px, tiles of 256 px, baseline JPEG.

    Attributes
    ----------
    frames_given, requests : int
    sizes : list of int
        Frames of each request.
    """

    daemon_threads = True

    def __init__(self, side_px: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.side_px = side_px
        self.columns = -(-side_px // FRAME_PX)
        self.frames_given = self.requests = 0
        self.sizes: list[int] = []
        self.lock = threading.Lock()
        self.tiles = [_encoded(tile_colour(index)) for index in range(64)]

    @property
    def series(self) -> str:
        """URL of the series."""
        return f"http://127.0.0.1:{self.server_port}/studies/{STUDY}/series/{SERIES}"

    def metadata(self) -> bytes:
        """Return the DICOM JSON of the series."""
        width_mm = self.side_px * 0.0005
        elements: dict[str, tuple[str, list[Any]]] = {
            "00080008": ("CS", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]),
            "00080016": ("UI", ["1.2.840.10008.5.1.4.1.1.77.1.6"]),
            "00080018": ("UI", [INSTANCE]),
            "0020000D": ("UI", [STUDY]),
            "0020000E": ("UI", [SERIES]),
            "00209311": ("CS", ["TILED_FULL"]),
            "00280002": ("US", [3]),
            "00280004": ("CS", ["YBR_FULL_422"]),
            "00280008": ("IS", [self.columns**2]),
            "00280010": ("US", [FRAME_PX]),
            "00280011": ("US", [FRAME_PX]),
            "00280100": ("US", [8]),
            "00280101": ("US", [8]),
            "00280102": ("US", [7]),
            "00480001": ("FL", [width_mm]),
            "00480002": ("FL", [width_mm]),
            "00480006": ("UL", [self.side_px]),
            "00480007": ("UL", [self.side_px]),
        }
        return json.dumps([{tag: {"vr": vr, "Value": values} for tag, (vr, values) in elements.items()}]).encode()

    def frames(self, numbers: list[int]) -> bytes:
        """Return a multipart body of frames (1-based)."""
        with self.lock:
            self.frames_given += len(numbers)
            self.requests += 1
            self.sizes.append(len(numbers))
        head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg; transfer-syntax={_SYNTAX}\r\n\r\n".encode()
        parts = (head + self.tiles[(number - 1) % 64] + b"\r\n" for number in numbers)
        return b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()


def _encoded(colour: tuple[int, int, int]) -> bytes:
    # Some texture: a plain tile would decode faster than tissue does.
    noise = np.random.default_rng(colour[0]).integers(-12, 13, (FRAME_PX, FRAME_PX, 3))
    pixels: NDArray[np.uint8] = np.clip(np.asarray(colour) + noise, 0, 255).astype(np.uint8)
    return bytes(simplejpeg.encode_jpeg(pixels, quality=80))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: VirtualSlide

    def do_GET(self) -> None:
        """Answer metadata and frames, and nothing else."""
        kind, body, status = "text/plain", b"", 404
        if self.path.endswith("/metadata"):
            kind, body, status = "application/dicom+json", self.server.metadata(), 200
        elif "/frames/" in self.path:
            numbers = [int(number) for number in self.path.rpartition("/")[2].split(",")]
            if all(0 < number <= self.server.columns**2 for number in numbers):
                kind = f'multipart/related; type="image/jpeg"; boundary={_BOUNDARY}'
                body, status = self.server.frames(numbers), 200
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def virtual_slide(side_px: int) -> Iterator[VirtualSlide]:
    """Serve a slide for the length of a block."""
    server = VirtualSlide(side_px)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
