"""The Vision Transformer as a PyTorch module, for inference; importing it imports PyTorch."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.encoders.vit.shape import VitShape


class _PatchEmbedding(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Squares of pixels to tokens (B, N, width)."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, shape.width, shape.patch_px, shape.patch_px)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class _Attention(nn.Module):  # type: ignore[misc]
    """Every token that is asked for looks at all tokens."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.qkv = nn.Linear(shape.width, 3 * shape.width, bias=shape.qkv_bias)
        self.proj = nn.Linear(shape.width, shape.width)

    def forward(self, tokens: Tensor, asked: int) -> Tensor:
        batch, count, width = tokens.shape
        if asked == count:
            query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        else:
            weight, bias = self.qkv.weight, self.qkv.bias
            of_query, of_others = (None, None) if bias is None else (bias[:width], bias[width:])
            query = functional.linear(tokens[:, :asked], weight[:width], of_query)
            key, value = functional.linear(tokens, weight[width:], of_others).chunk(2, dim=-1)
        heads = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value)]
        seen = functional.scaled_dot_product_attention(*heads)
        return self.proj(seen.transpose(1, 2).reshape(batch, asked, width))


class _Mlp(nn.Module):  # type: ignore[misc]
    """GELU between two matrices, or a SiLU gate."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.gated = shape.mlp == "swiglu"
        self.fc1 = nn.Linear(shape.width, shape.hidden * (2 if self.gated else 1))
        self.fc2 = nn.Linear(shape.hidden, shape.width)

    def forward(self, tokens: Tensor) -> Tensor:
        inner = self.fc1(tokens)
        if self.gated:
            gate, inner = inner.chunk(2, dim=-1)
            return self.fc2(functional.silu(gate) * inner)
        return self.fc2(functional.gelu(inner))


class _LayerScale(nn.Module):  # type: ignore[misc]
    """What is added, times a vector."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(shape.width))

    def forward(self, tokens: Tensor, added: Tensor) -> Tensor:
        return torch.addcmul(tokens, added, self.gamma)


class _Sum(nn.Module):  # type: ignore[misc]
    """What is added, as it is."""

    def forward(self, tokens: Tensor, added: Tensor) -> Tensor:
        return tokens + added


class _Block(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.width, shape.eps)
        self.attn = _Attention(shape)
        self.ls1 = _LayerScale(shape) if shape.layer_scale else _Sum()
        self.norm2 = nn.LayerNorm(shape.width, shape.eps)
        self.mlp = _Mlp(shape)
        self.ls2 = _LayerScale(shape) if shape.layer_scale else _Sum()

    def forward(self, tokens: Tensor, asked: int) -> Tensor:
        tokens = self.ls1(tokens[:, :asked], self.attn(self.norm1(tokens), asked))
        return self.ls2(tokens, self.mlp(self.norm2(tokens)))


class VisionTransformer(nn.Module):  # type: ignore[misc]
    """Images, float (B, 3, S, S), to features, float (B, dimension); parameters are named as timm names them."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.shape = shape
        self.patch_embed = _PatchEmbedding(shape)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        if shape.registers:
            self.reg_token = nn.Parameter(torch.zeros(1, shape.registers, shape.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, shape.placed + shape.grid**2, shape.width))
        self.blocks = nn.ModuleList(_Block(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width, shape.eps)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images."""
        first = self.shape.registers + 1
        tokens = self._tokens(images)
        # Of the last block only what is read is computed: for the class token alone, a sixth of its work.
        asked = 1 if self.shape.pooling == "cls" else tokens.shape[1]
        for block in self.blocks[:-1]:
            tokens = block(tokens, tokens.shape[1])
        tokens = self.norm(self.blocks[-1](tokens, asked))
        if self.shape.pooling == "cls":
            return tokens[:, 0]
        return torch.cat([tokens[:, 0], tokens[:, first:].mean(1)], 1)

    def _tokens(self, images: Tensor) -> Tensor:
        """Return class token, registers and patches in their places."""
        shape, patches = self.shape, self.patch_embed(images)
        side = images.shape[-1] // shape.patch_px
        places = self._places(side)
        lead = [self.cls_token, *([self.reg_token] if shape.registers else [])]
        before = torch.cat([one.expand(len(images), -1, -1) for one in lead], 1)
        placed = before[:, : shape.placed] + places[:, : shape.placed]
        return torch.cat([placed, before[:, shape.placed :], patches + places[:, shape.placed :]], 1)

    def _places(self, side: int) -> Tensor:
        """Return the position embedding for a grid of `side` x `side`."""
        shape = self.shape
        if side == shape.grid:
            return self.pos_embed
        lead, grid = self.pos_embed[:, : shape.placed], self.pos_embed[:, shape.placed :]
        square = grid.float().unflatten(1, (shape.grid, shape.grid)).permute(0, 3, 1, 2)
        if shape.resampling == "timm":
            scaled = functional.interpolate(square, (side, side), mode="bicubic", antialias=True)
        else:
            ratio = (side + 0.1) / shape.grid
            scaled = functional.interpolate(square, scale_factor=(ratio, ratio), mode="bicubic")
        return torch.cat([lead, scaled.flatten(2).transpose(1, 2).to(lead.dtype)], 1)
