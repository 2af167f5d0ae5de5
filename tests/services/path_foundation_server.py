"""A stand-in for Google's hosted Path Foundation: takes what its contract allows, and refuses the rest as it does.

It knows images that come with the request (the others need a store of its own), and embeds them by mean colours.
Faults are replies that a test puts before it, or what it makes of its `answer`.
"""

import base64
import io
import json
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.services.http import Asked, Reply

DIMENSION = 384
_MOST_BYTES = 1_500_000
_MOST_PATCHES = 4000
_CELLS = (16, 8)  # 16 x 8 x 3 = 384
_INSTANCE = {"image_file_uri", "bearer_token", "patch_coordinates", "extensions"}
_COORDINATE = {"x_origin", "y_origin", "width", "height"}
_EXTENSIONS = {
    "require_patches_fully_in_source_image", "image_dimensions", "transform_imaging_to_icc_profile", "ez_wsi_state",
}  # fmt: skip
_WHOLE = {"image", "icc_profile_metadata_normalization"}
_PARTS = {"patches", "source_image_width_px", "source_image_height_px", "icc_profile_metadata_normalization"}


def embedding_of(patch: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what the model makes of a patch."""
    scaled = patch.astype(np.float32) / np.float32(255)
    return np.asarray(cv2.resize(scaled, _CELLS, interpolation=cv2.INTER_AREA).reshape(-1), np.float32)


class Refused(Exception):
    """All of a request is refused; the text is the code."""


@dataclass
class PathFoundation:
    """The service behind one route: put it among the replies of a `StrictServer`.

    Parameters
    ----------
    path : str
        Of the route.
    token : str
        Bearer token that a request must carry; "" for none.
    side_px : int
        Size of patch it takes.
    most_patches : int
        In a request.
    most_bytes : int
        Of a request.

    Attributes
    ----------
    patches : list of array
        Every patch it was given, as it was decoded.
    counts : list of int
        Patches of each request.
    """

    path: str = "/predict"
    token: str = ""
    side_px: int = 224
    most_patches: int = _MOST_PATCHES
    most_bytes: int = _MOST_BYTES
    patches: list[NDArray[np.uint8]] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Reply:
        """Answer a request."""
        headers = {name.lower(): value for name, value in asked.headers.items()}
        if asked.path != self.path:
            return _json({"error": {"code": 404, "message": "no such endpoint"}}, 404)
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            return _json({"error": {"code": 401, "message": f"{headers.get('authorization')} is not valid"}}, 401)
        if len(asked.body) > self.most_bytes:
            return _json({"error": {"code": 413, "message": "payload too large"}}, 413)
        try:
            body = json.loads(asked.body)
        except ValueError:
            return _json({"error": "No JSON body."}, 400)
        try:
            return _json(self.answer(body))
        except Refused as exc:
            return _json({"error": str(exc)})

    def answer(self, body: Any) -> dict[str, Any]:
        """Return the predictions for a request.

        Raises
        ------
        Refused
        """
        if not isinstance(body, dict) or set(body) != {"instances"} or not isinstance(body["instances"], list):
            raise Refused("INVALID_REQUEST_FIELD_ERROR")
        boxes = [_boxes(instance, self.side_px) for instance in body["instances"]]
        self.counts.append(sum(map(len, boxes)))
        if self.counts[-1] > self.most_patches:
            raise Refused("TOO_MANY_PATCHES_ERROR")
        return {"predictions": [self._embed(*pair) for pair in zip(body["instances"], boxes, strict=True)]}

    def _embed(self, instance: dict[str, Any], boxes: list[dict[str, int]]) -> dict[str, Any]:
        patches = _patches(instance["extensions"]["ez_wsi_state"], boxes)
        if isinstance(patches, str):
            return {"error": {"code": patches, "description": "canary: a path, a name"}}
        self.patches += patches
        found = [
            {"embedding_vector": embedding_of(patch).tolist(), "patch_coordinate": box}
            for patch, box in zip(patches, boxes, strict=True)
        ]
        return {"result": {"patch_embeddings": found}}


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


def _boxes(instance: Any, side_px: int) -> list[dict[str, int]]:
    """Check all fields of an instance, and return where its patches lie."""
    if not isinstance(instance, dict) or not set(instance) <= _INSTANCE or "image_file_uri" not in instance:
        raise Refused("INVALID_REQUEST_FIELD_ERROR")
    if not str(instance["image_file_uri"]).startswith("gs://") or not isinstance(instance.get("bearer_token", ""), str):
        raise Refused("INVALID_REQUEST_FIELD_ERROR")
    extensions = instance.get("extensions", {})
    state = extensions.get("ez_wsi_state", {})
    if not set(extensions) <= _EXTENSIONS or not (set(state) <= _WHOLE or set(state) == _PARTS):
        raise Refused("INVALID_REQUEST_FIELD_ERROR")
    if extensions.get("transform_imaging_to_icc_profile", "NONE") not in {"NONE", "SRGB", "ADOBERGB", "ROMMRGB"}:
        raise Refused("INVALID_REQUEST_FIELD_ERROR")
    boxes = instance.get("patch_coordinates")
    if not isinstance(boxes, list) or not boxes:
        raise Refused("INVALID_REQUEST_FIELD_ERROR")
    found = []
    for box in boxes:
        if not {"x_origin", "y_origin"} <= set(box) <= _COORDINATE:
            raise Refused("INVALID_REQUEST_FIELD_ERROR")
        whole = {"width": side_px, "height": side_px} | box
        if (whole["width"], whole["height"]) != (side_px, side_px):
            raise Refused("PATCH_DIMENSIONS_DO_NOT_MATCH_ENDPOINT_INPUT_DIMENSIONS_ERROR")
        found.append(whole)
    return found


def _patches(state: dict[str, Any], boxes: list[dict[str, int]]) -> list[NDArray[np.uint8]] | str:
    """Return the pixels of patches that lie in an image, or come one by one; or the code of what is wrong with them."""
    if "patches" in state:
        if len(state["patches"]) != len(boxes):
            return "EZ_WSI_STATE_ERROR"
        return [_decoded(text) for text in state["patches"]]
    if "image" not in state:
        return "GCS_IMAGE_PATH_FORMAT_ERROR"  # the place holder names no image
    image = _decoded(state["image"])
    found = []
    for box in boxes:
        x, y = box["x_origin"], box["y_origin"]
        patch = image[y : y + box["height"], x : x + box["width"]]
        if min(x, y) < 0 or patch.shape != (box["height"], box["width"], 3):
            return "PATCH_OUTSIDE_OF_IMAGE_DIMENSIONS_ERROR"
        found.append(patch)
    return found


def _decoded(text: str) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as image:
        assert image.format == "PNG", "pixels must arrive as they were sent"
        return np.asarray(image.convert("RGB"))
