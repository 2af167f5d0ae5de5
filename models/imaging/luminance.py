"""Luminance and chroma as DICOM defines them become RGB, where no decoder does it."""

import numpy as np
from numpy.typing import NDArray

_CENTRE = np.float32(128)


def rgb_of(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Invert PS3.3 C.7.6.3.1.2's YBR_FULL: Y, CB, CR of 8 bits, full range.

    Parameters
    ----------
    pixels : uint8 array, shape (H, W, 3)

    Returns
    -------
    uint8 array, shape (H, W, 3)
        RGB, rounded to the nearest; what lies outside of 0 to 255 is clipped.
    """
    luminance, blue, red = (pixels[..., channel].astype(np.float32) for channel in range(3))
    blue -= _CENTRE
    red -= _CENTRE
    rgb = np.empty((*pixels.shape[:2], 3), np.float32)
    # The weights of red, green and blue in Y are 0.299, 0.587, 0.114; CB = (B - Y) / 1.772, CR = (R - Y) / 1.402.
    rgb[..., 0] = luminance + np.float32(1.402) * red
    rgb[..., 1] = luminance - np.float32(0.114 * 1.772 / 0.587) * blue - np.float32(0.299 * 1.402 / 0.587) * red
    rgb[..., 2] = luminance + np.float32(1.772) * blue
    return np.clip(np.rint(rgb, out=rgb), 0, 255, out=rgb).astype(np.uint8)


def unpaired(samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give each pixel of YBR_FULL_422 a chroma of its own: that of its pair (PS3.3 C.7.6.3.1.2).

    Parameters
    ----------
    samples : uint8 array, shape (H, W / 2, 4)
        Y, Y, CB, CR of two neighbours.

    Returns
    -------
    uint8 array, shape (H, W, 3)
    """
    height, pairs = samples.shape[:2]
    pixels = np.empty((height, pairs, 2, 3), np.uint8)
    pixels[..., 0] = samples[..., :2]
    pixels[..., 1:] = samples[..., None, 2:]
    return pixels.reshape(height, 2 * pairs, 3)
