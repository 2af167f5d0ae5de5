"""Pixels become what a network wants to see: range, size and normalisation of its spec, on the device."""

from typing import Any

from models.encoders.protocol import EncoderSpec


class Images:
    """The pre-processing of a spec, on tensors.

    Patches of another size are resized as floats, unrounded, and always with ``antialias=True``: torchvision's default
    for tensors changed over its versions, so it is pinned here. Antialiased, bicubic has the coefficient a = -0.5, as
    Pillow has it; otherwise it would be -0.75. It may overshoot 0..1; nothing is clamped, as nothing is in the
    published code. ``align_corners`` is False.

    Parameters
    ----------
    spec : EncoderSpec
    device : torch.device
    dtype : torch.dtype
        Of what the network gets; all before is computed in float32.
    """

    def __init__(self, spec: EncoderSpec, device: Any, dtype: Any) -> None:
        import torch

        self._torch, self._spec, self._dtype = torch, spec, dtype
        self._mean = torch.tensor(spec.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(spec.std, device=device).view(1, 3, 1, 1)

    def unit(self, pixels: Any) -> Any:
        """Return uint8 (B, H, W, 3) as float32 (B, 3, H, W) in 0..1, the channels of a pixel still side by side."""
        return pixels.permute(0, 3, 1, 2).float().div_(255)

    def prepared(self, images: Any) -> Any:
        """Return float32 (B, 3, H, W) in 0..1 as (B, 3, input_px, input_px), normalised."""
        spec, (low, high) = self._spec, self._spec.value_range
        images = self._cropped(self._resized(images, spec.resize_px or spec.input_px))
        if (low, high) != (0.0, 1.0):
            images = images * (high - low) + low
        images = (images - self._mean).div_(self._std)
        return images.to(self._dtype, memory_format=self._torch.channels_last)

    def _resized(self, images: Any, side: int) -> Any:
        if images.shape[-2:] == (side, side):
            return images
        interpolate, mode = self._torch.nn.functional.interpolate, self._spec.interpolation
        if mode == "area":  # a mean over each pixel's area: antialiased by what it is
            return interpolate(images, (side, side), mode=mode)
        return interpolate(images, (side, side), mode=mode, antialias=True, align_corners=False)

    def _cropped(self, images: Any) -> Any:
        side = self._spec.input_px
        top = round((images.shape[-2] - side) / 2)
        left = round((images.shape[-1] - side) / 2)
        return images[..., top : top + side, left : left + side]
