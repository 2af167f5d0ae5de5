"""RLE frames (PS3.5 G): a header, then one PackBits segment for each of red, green, blue (or Y, CB, CR)."""

import struct
from itertools import pairwise

import imagecodecs
import numpy as np
from numpy.typing import NDArray

_HEADER = struct.Struct("<16I")
_SEGMENTS = 3  # one for each byte of a pixel (PS3.5 G.2)


def decode_rle(data: bytes | memoryview, height: int, width: int) -> NDArray[np.uint8]:
    """Decode three segments of one byte a pixel.

    Parameters
    ----------
    data : bytes-like
    height, width : int
        What the metadata promise; the header itself has no size.

    Returns
    -------
    uint8 array, shape (height, width, 3)

    Raises
    ------
    ValueError
        Another number of segments, offsets out of order, or a segment that gives less or more than its pixels.
    """
    view = bytes(data)
    if len(view) < _HEADER.size:
        raise ValueError("the header is cut off")
    count, *offsets = _HEADER.unpack_from(view)
    edges = [*offsets[:_SEGMENTS], len(view)]
    if count != _SEGMENTS or edges[0] != _HEADER.size or any(one >= two for one, two in pairwise(edges)):
        raise ValueError(f"{count} segments, or segments out of order")
    planes = np.empty((_SEGMENTS, height * width), np.uint8)
    for plane, (start, end) in zip(planes, pairwise(edges), strict=True):
        # Writes into `plane` and not beyond; whatever is left unwritten shows in what it returns.
        written = imagecodecs.packbits_decode(view[start:end], out=plane.data)
        if len(written) != height * width:
            raise ValueError(f"a segment of {len(written)} pixels, {height * width} were promised")
    return np.ascontiguousarray(planes.T).reshape(height, width, _SEGMENTS)
