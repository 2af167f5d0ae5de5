"""A server of Path Foundation's contract (on Vertex AI, or your own) as an encoder, through EZ-WSI's endpoint class.

EZ-WSI prepares the requests and takes the answers apart; they travel over a session of our own, with its timeouts and
bounded retries. Of itself EZ-WSI waits for ever, and asks for ever where a server answers INVALID_CREDENTIALS.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from ez_wsi_dicomweb import ez_wsi_errors, local_image, patch_embedding, patch_embedding_endpoints
from numpy.typing import NDArray

from connectors.body import read_body
from connectors.endpoints import Endpoint
from connectors.http import HttpSession, error_of, retrying
from models.domain.errors import (
    AccessDenied,
    EndpointFailed,
    ResponseInvalid,
    SettingsInvalid,
    SlidewireError,
)
from models.domain.patch import Rows
from models.encoders.protocol import Encoder, EncoderSpec
from models.encoders.weightless import Weightless

_REQUEST_BYTES: Final = 1_290_000  # EZ-WSI's bound, less what is not pixels; Vertex takes 1.5 MB
_MOST_PATCHES: Final = 100
_BYTES_A_PIXEL: Final = 4.04  # of noise: PNG makes it no smaller, and base64 makes four of three
_ANSWER_BYTES: Final = 64 << 20
_TOO_MANY: Final = "TOO_MANY_PATCHES_ERROR"
# The codes of the contract that say something else than "refused".
_DENIED: Final = {"INVALID_CREDENTIALS_ERROR", "UNAPPROVED_DICOM_STORE_ERROR", "UNAPPROVED_GCS_BUCKET_ERROR"}
_OTHER_SIZE: Final = "PATCH_DIMENSIONS_DO_NOT_MATCH_ENDPOINT_INPUT_DIMENSIONS_ERROR"
_FAILED: Final = "HTTP_ERROR"
_REFUSED: Final = {
    "INSTANCES_NOT_CONCATENATED_ERROR", "INVALID_REQUEST_FIELD_ERROR", "INVALID_RESPONSE_ERROR",
    "LEVEL_NOT_FOUND_ERROR", "EZ_WSI_STATE_ERROR", "EZ_WSIDE_STATE_ERROR", "IMAGE_ERROR",
    "INVALID_ICC_PROFILE_TRANSFORM_ERROR",
    "IMAGE_DIMENSION_ERROR", "DICOM_TILED_FULL_ERROR", "DICOM_ERROR", "DICOM_IMAGE_DOWNSAMPLING_TOO_LARGE_ERROR",
    "PATCH_OUTSIDE_OF_IMAGE_DIMENSIONS_ERROR", "DICOM_PATH_ERROR", "GCS_IMAGE_PATH_FORMAT_ERROR",
}  # fmt: skip


def patches_a_request(side_px: int) -> int:
    """Return how many patches of a size always fit into one request, whatever is on them; 0: not even one."""
    return min(_MOST_PATCHES, int(_REQUEST_BYTES / (side_px * side_px * _BYTES_A_PIXEL)))


@dataclass(frozen=True, slots=True)
class RemoteModel(Weightless):
    """A `Model` that runs elsewhere. It has no weights here, and nobody here knows them.

    Parameters
    ----------
    spec : EncoderSpec
        With `remote` set; its `input_px` is the size of patch that the server takes.
    endpoint : Endpoint
        Its URL is the one to POST requests to; as many are under way as it has connections, ten at most.
    """

    spec: EncoderSpec
    endpoint: Endpoint

    def load(self, weights: Path | None, options: Mapping[str, str], device: str = "auto") -> Encoder:
        """Return the encoder; nothing is sent yet.

        Raises
        ------
        SettingsInvalid
            The credentials refer to nothing, or a file of the endpoint's is none.
        """
        del weights, device
        self.settle(options)
        return _RemoteEncoder(self.spec, _Server(self.spec.input_px, HttpSession(self.endpoint)))


class _TooMany(Exception):
    """The server wants fewer patches in a request."""


class _Server(patch_embedding_endpoints.PathFoundationsEmbeddingEndpoint):  # type: ignore[misc]
    """EZ-WSI's endpoint, over one pooled session."""

    def __init__(self, side_px: int, session: HttpSession) -> None:
        self.session = session
        self.label = session.endpoint.label
        super().__init__(
            session.endpoint.url,
            side_px,
            side_px,
            session.endpoint.connections,
            patches_a_request(side_px),
            credential_factory=session.credential_factory,
        )

    def ask_for_fewer(self) -> None:
        """Halve the patches of a request.

        Raises
        ------
        ResponseInvalid
            It is one already.
        """
        if self._max_patches_per_request == 1:
            raise ResponseInvalid(f"The {self.label} refuses a request of one patch as too large.")
        self._max_patches_per_request //= 2

    def _request_embeddings(self, json_msg: str) -> str:
        return retrying(lambda: self._post(json_msg.encode()))

    def _post(self, body: bytes) -> str:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "gzip"}
        with self.session.opened(self.end_point_url, headers, body) as response:
            if response.status_code == 413:
                raise _TooMany
            if response.status_code != 200:
                raise error_of(response.status_code, self.label, response.headers.get("Retry-After"))
            answer = read_body(response, self.session.endpoint.timeouts, self.label, _ANSWER_BYTES)
            return answer.decode("utf-8", "replace")

    def _is_request_error_retryable(self, json_response: Mapping[str, Any]) -> bool:
        # EZ-WSI asks again with a new token for the slide's store; none is sent here, where the pixels are.
        del json_response
        return False

    def _decode_response(self, embedding_inputs: Sequence[Any], json_response: Any) -> Any:
        """Raise what the server says is wrong, with all of a request or with an image."""
        found = json_response if isinstance(json_response, dict) else {}
        predictions = found.get("predictions", [])
        if not isinstance(predictions, list):
            raise _unlike(self.label)
        for said in (found, *predictions):
            error = said.get("error")
            if error is not None:
                raise self._error_of(error.get("code") if isinstance(error, dict) else error)
        return super()._decode_response(embedding_inputs, found)

    def _error_of(self, code: object) -> Exception:
        if code == _TOO_MANY:
            return _TooMany()
        if code in _DENIED:
            return AccessDenied(f"The {self.label} denies access to the patches ({code}): check how it is set up.")
        if code == _OTHER_SIZE:
            return SettingsInvalid(f"The {self.label} takes patches of another size than {self.patch_width()} px.")
        if code == _FAILED:
            return EndpointFailed(f"The {self.label} failed ({code}): look into its log.")
        known = code if code in _REFUSED else "with a code that is not of its contract"
        return ResponseInvalid(f"The {self.label} refused the patches ({known}).")


class _RemoteEncoder:
    def __init__(self, spec: EncoderSpec, server: _Server) -> None:
        self._spec = spec
        self._server = server

    def encode(self, pixels: NDArray[np.uint8]) -> Rows:
        """Embed uint8 RGB patches (B, H, W, 3) on the server; return float32 (B, D).

        Raises
        ------
        EndpointError
            The server cannot be reached, fails, refuses, or answers anything else than one finite row a patch.
        """
        while True:
            try:
                return self._ask(pixels)
            except _TooMany:
                self._server.ask_for_fewer()

    def _ask(self, pixels: NDArray[np.uint8]) -> Rows:
        images = _sized(pixels, self._spec.input_px)
        together = self._server.max_number_of_patches_per_request()
        strips = [images[start : start + together] for start in range(0, len(images), together)]
        with _translated(self._server.label):
            patches = (patch for strip in strips for patch in _patches_of(strip))
            found = [result.embedding for result in patch_embedding.generate_patch_embeddings(self._server, patches)]
        expected = (self._spec.dimension,)
        if len(found) != len(images) or any(row.shape != expected or row.dtype.kind not in "fi" for row in found):
            raise ResponseInvalid(f"The {self._server.label} gave other embeddings than {expected[0]} numbers a patch.")
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinity
            matrix = np.stack(found).astype(np.float32)
        if not np.isfinite(matrix).all():
            raise ResponseInvalid(f"The {self._server.label} gave NaN or infinity.")
        return Rows(matrix)


def _sized(pixels: NDArray[np.uint8], side_px: int) -> NDArray[np.uint8]:
    """Bring patches to the server's size, as it does itself with images: by area down, by Keys' kernel up."""
    if pixels.shape[1:3] == (side_px, side_px):
        return pixels
    how = cv2.INTER_AREA if pixels.shape[1] > side_px else cv2.INTER_CUBIC
    return np.stack([cv2.resize(patch, (side_px, side_px), interpolation=how) for patch in pixels])


def _patches_of(strip: NDArray[np.uint8]) -> list[Any]:
    """Return patches as parts of one image, one below the other: a request.

    Each so has coordinates of its own, which the answer repeats, and by which one in another order is found out.
    """
    side_px = strip.shape[1]
    image = local_image.LocalImage(strip.reshape(-1, side_px, 3))
    return [image.get_patch(0, number * side_px, side_px, side_px) for number in range(len(strip))]


def _unlike(label: str) -> ResponseInvalid:
    return ResponseInvalid(
        f"The {label} answered unlike Path Foundation's contract: is the URL that of its predictions?"
    )


@contextmanager
def _translated(label: str) -> Iterator[None]:
    """Turn what EZ-WSI raises into our errors; the originals' texts hold URLs and are not kept."""
    try:
        yield
    except (SlidewireError, _TooMany):
        raise
    except (ez_wsi_errors.EZWsiError, RecursionError, AttributeError, TypeError, ValueError):
        raise _unlike(label) from None
