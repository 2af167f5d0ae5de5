"""Vision Transformers: the one shape that all of them have; their network is in `vit_network`.

Sources: Dosovitskiy et al., arXiv:2010.11929 (ViT); Caron et al., arXiv:2104.14294 (DINO); Oquab et al.,
arXiv:2304.07193 (DINOv2: SwiGLU, LayerScale); Darcet et al., arXiv:2309.16588 (registers).
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class VitShape:
    """What one Vision Transformer has of what they can have.

    Parameters
    ----------
    width : int
        Components of a token.
    depth : int
        Blocks.
    heads : int
    hidden : int
        Features that the second matrix of an MLP takes. For SwiGLU the first gives twice as many: the gate, then what
        is gated (timm's ``SwiGLUPacked`` and DINOv2's ``w12`` agree on that order).
    patch_px : int
        Side of the square that becomes a token.
    image_px : int
        Side of the images that the position embedding was made for.
    mlp : str
        ``gelu`` (exact, not the tanh approximation) or ``swiglu`` (SiLU gate).
    layer_scale : bool
        What a block adds is scaled by a learnt vector.
    registers : int
        Learnt tokens between the class token and the patches; nothing of them is read in the end.
    placed : int
        Tokens before the patches that have a place in the position embedding: 0 is timm's ``no_embed_class``,
        1 the class token only (DINO, DINOv2), 1 + `registers` what timm does otherwise.
    pooling : str
        What is read after the last norm: ``cls``, the class token, or ``cls+mean``, it and the mean of the patches.
    eps : float
        Of all LayerNorms.
    qkv_bias : bool
    resampling : str
        How the position embedding is brought to images of another size, by a bicubic: ``timm`` to the grid's size,
        with antialiasing; ``dino`` by the ratio of the sides, a tenth of a token added to the grid, without.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    patch_px: int
    image_px: int = 224
    mlp: Literal["gelu", "swiglu"] = "gelu"
    layer_scale: bool = False
    registers: int = 0
    placed: int = 1
    pooling: Literal["cls", "cls+mean"] = "cls"
    eps: float = 1e-6
    qkv_bias: bool = True
    resampling: Literal["timm", "dino"] = "timm"

    @property
    def grid(self) -> int:
        """Tokens along a side of an image of `image_px`; what is left over at the edge is not seen."""
        return self.image_px // self.patch_px

    @property
    def dimension(self) -> int:
        """Components of what is read."""
        return self.width * (2 if self.pooling == "cls+mean" else 1)
