"""The stem of CTransPath, which stands where Swin has its patch embedding; importing it imports PyTorch."""

from torch import Tensor, nn

_PATCH_PX = 4


class ConvStem(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Two convolutions of stride 2 and one of 1 x 1: images (B, 3, S, S) to tokens (B, S / 4, S / 4, width).

    Xiao et al., arXiv:2106.14881, as in the authors' code (``ctran.py``): a quarter and a half of the usual width, no
    bias before the batch normalisation. timm makes it as the ``embed_layer`` of its Swin and asks for a picture of
    tokens, where the fork that CTransPath came with asked for a row.

    Parameters
    ----------
    width : int
        Components of a token.
    side_px : int
        Of the images.
    norm : callable or None
        Makes the norm of tokens from their width.
    """

    def __init__(self, width: int, side_px: int, norm: type[nn.Module] | None = None) -> None:
        super().__init__()
        self.grid_size = (side_px // _PATCH_PX, side_px // _PATCH_PX)
        layers: list[nn.Module] = []
        before, after = 3, width // 8
        for _ in range(2):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            before, after = after, after * 2
        self.proj = nn.Sequential(*layers, nn.Conv2d(before, width, 1))
        self.norm = norm(width) if norm else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens, rows and columns before components."""
        return self.norm(self.proj(images).permute(0, 2, 3, 1))
