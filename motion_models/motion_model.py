"""The AnimateDiff motion model: temporal transformers that follow the blocks of a UNet.

Plain PyTorch that needs no ComfyUI; its weight-casting layers come in through `operations`.
The architecture is that of "AnimateDiff: Animate Your Personalized Text-to-Image Diffusion Models without Specific
Tuning" (arXiv 2307.04725, section 4.2), and a parameter's path here is its key in the published files.

Two numbers control a module. The *strength* is how much of what it adds is used; the *motion scale* multiplies the
keys of its temporal attention.

Shapes: `b` conds, `f` frames, `c` channels, `h w` latent size, `d = h*w`, `n` rows in a chunk of the `b*d` pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .picture_inputs import PICTURE_INPUTS

# A number, or one for each frame (b f) 1 1 1 or place (b f) 1 h w.
Amount = float | Tensor

# What a motion model's first attention sees in place of its tokens, n f c with their positions, of which the first is
# this row of all (b d).
Merge = Callable[[Tensor, int], Tensor]

# Attention batches pixels, and CUDA kernels refuse a batch above 65535.
MAX_ROWS = 32768
# Size of a chunk's largest activation (the 8c of the feed-forward). On a CPU it has to fit the cache and stay below the
# size at which malloc returns fresh pages every time; on a GPU it only has to be small beside the UNet's activations.
CHUNK_BYTES_CPU = 24 << 20
CHUNK_BYTES_GPU = 256 << 20


@dataclass(frozen=True)
class MotionModelConfig:
    """The layout of a motion model. `down[i][j]` is the channel count of `down_blocks.i.motion_modules.j`."""

    down: tuple[tuple[int, ...], ...]
    mid: tuple[int, ...]
    up: tuple[tuple[int, ...], ...]
    pe_length: int = 32
    attentions: int = 2
    transformer_blocks: int = 1
    heads: int = 8
    norm_groups: int = 32
    norm_over_frames: bool = False
    """Whether the module's own GroupNorm takes its statistics over all frames, as in AnimateDiff-SDXL."""
    picture_input: str = ""
    """The part that sees pictures, a key of `PICTURE_INPUTS`; most families have none."""

    @classmethod
    def for_unet(cls, channels: tuple[int, ...], mid: bool, **options: Any) -> MotionModelConfig:
        """Return the layout for a UNet with these channels per level, with SD1.5's two ResBlocks down and three up."""
        return cls(
            down=tuple((c,) * 2 for c in channels),
            mid=(channels[-1],) if mid else (),
            up=tuple((c,) * 3 for c in reversed(channels)),
            **options,
        )

    def levels(self) -> list[str]:
        """Return the names of the blocks: `down_blocks.0` ... `up_blocks.3`, and `mid_block` if there is one."""
        return list(dict.fromkeys(name.partition(".motion_modules")[0] for name in self.channels_by_name()))

    def channels_by_name(self) -> dict[str, int]:
        """Return the channels of every motion module by its path, such as `down_blocks.0.motion_modules.1`."""
        blocks = {f"down_blocks.{i}": c for i, c in enumerate(self.down)}
        blocks |= {f"up_blocks.{i}": c for i, c in enumerate(self.up)} | ({"mid_block": self.mid} if self.mid else {})
        return {f"{block}.motion_modules.{j}": c for block, cs in blocks.items() for j, c in enumerate(cs)}


def sinusoids(length: int, channels: int) -> Tensor:
    """Return the positional encoding, (1, length, channels) in fp32 ("Attention Is All You Need", section 3.5)."""
    position = torch.arange(length, dtype=torch.float32)[:, None]
    frequency = torch.exp(torch.arange(0, channels, 2, dtype=torch.float32) * (-math.log(10000.0) / channels))
    return torch.stack((torch.sin(position * frequency), torch.cos(position * frequency)), dim=-1).view(1, length, -1)


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, motion_scale: float) -> Tensor:
    """Return self-attention over frames, (n, f, c) for q, k, v of that shape; a motion scale above 1 sharpens it.

    ComfyUI's selected attention is left aside on purpose: it is tuned for few long sequences. Here there are thousands
    of sequences of 8 to 64 tokens, for which the quantising and splitting kernels are slow or fail.
    """
    n, f, c = q.shape
    scale = motion_scale / math.sqrt(c // heads)
    q, k, v = (t.view(n, f, heads, c // heads).transpose(1, 2) for t in (q, k, v))
    if q.device.type == "cpu":  # takes half the time of scaled_dot_product_attention at these lengths
        q, k, v = (t.reshape(n * heads, f, c // heads) for t in (q, k, v))
        weights = (torch.bmm(q, k.transpose(1, 2)) * scale).softmax(dim=-1)
        out = torch.bmm(weights, v).view(n, heads, f, c // heads)
    else:
        out = F.scaled_dot_product_attention(q, k, v, scale=scale)
    return out.transpose(1, 2).reshape(n, f, c)


def add(x: Tensor, y: Tensor) -> Tensor:
    """Return x + y in x's dtype, summed in the wider of the two; in place unless autograd needs x."""
    return (x + y).to(x.dtype) if torch.is_grad_enabled() else x.add_(y)


class PositionalEncoding(nn.Module):
    """A layer that adds `pe`, (1, length, c), which is always fp32: rounded to fp16 the positions blur."""

    def __init__(self, channels: int, length: int, device: torch.device | None):
        super().__init__()
        # A model on the meta device is filled from a file, which takes less time than computing the positions.
        meta = device is not None and device.type == "meta"
        pe = torch.empty(1, length, channels, device=device) if meta else sinusoids(length, channels).to(device)
        self.pe = nn.Parameter(pe, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return add(x, self.pe[:, : x.shape[1]].to(x.device))


class TemporalAttention(nn.Module):
    def __init__(self, channels: int, config: MotionModelConfig, operations: Any, **factory: Any):
        super().__init__()
        self.heads = config.heads
        self.to_q = operations.Linear(channels, channels, bias=False, **factory)
        self.to_k = operations.Linear(channels, channels, bias=False, **factory)
        self.to_v = operations.Linear(channels, channels, bias=False, **factory)
        self.to_out = nn.ModuleList([operations.Linear(channels, channels, **factory)])
        self.pos_encoder = PositionalEncoding(channels, config.pe_length, factory["device"])

    def forward(self, x: Tensor, motion_scale: Amount, merge: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        x = self.pos_encoder(x)
        if merge is not None:
            x = merge(x)
        q, k, v = self.to_q(x), self.to_k(x), self.to_v(x)
        if isinstance(motion_scale, Tensor) or motion_scale <= 0.0:  # CUDA's attention expects a positive number
            k, motion_scale = k * motion_scale, 1.0
        return self.to_out[0](attend(q, k, v, heads=self.heads, motion_scale=motion_scale))


class GEGLU(nn.Module):
    """A gated linear unit with the exact GELU (arXiv 2002.05202); the second half of the projection is the gate."""

    def __init__(self, channels: int, hidden: int, operations: Any, **factory: Any):
        super().__init__()
        self.proj = operations.Linear(channels, 2 * hidden, **factory)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        gate = F.gelu(gate)
        return gate * value if torch.is_grad_enabled() else gate.mul_(value)


class FeedForward(nn.Module):
    def __init__(self, channels: int, operations: Any, **factory: Any):
        super().__init__()
        down = operations.Linear(4 * channels, channels, **factory)
        self.net = nn.ModuleList([GEGLU(channels, 4 * channels, operations, **factory), nn.Identity(), down])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class AttentionWindows(NamedTuple):
    """Windows over the frames of a clip. Temporal attention sees one window at a time, and the results are blended
    (FreeNoise, arXiv 2310.15169, "window-based attention fusion")."""

    frames: Tensor
    """(windows * length) the frame at each place of each window."""
    length: int
    places: Tensor
    """(most windows of a frame, f) the places of each frame among these."""
    weights: Tensor
    """(most windows of a frame, f, 1) the weights of these places: their sum is 1, with 0 for missing places."""

    @classmethod
    def of(cls, windows: Sequence[Sequence[int]], weights: Sequence[Tensor], device: torch.device) -> AttentionWindows:
        """Build them from windows of one length, and (length,) weights for each."""
        frames = [frame for window in windows for frame in window]
        weight = torch.cat(list(weights)).tolist()
        places_of_frame: list[list[int]] = [[] for _ in range(max(frames) + 1)]
        for place, frame in enumerate(frames):
            places_of_frame[frame].append(place)
        weights_of_frame = [[[weight[place]] for place in places] for places in places_of_frame]
        return cls(
            frames=torch.tensor(frames, device=device),
            length=len(windows[0]),
            places=torch.tensor(list(zip_longest(*places_of_frame, fillvalue=0)), device=device),
            weights=torch.tensor(list(zip_longest(*weights_of_frame, fillvalue=[0.0])), device=device),
        )

    def split(self, x: Tensor) -> Tensor:
        """Split n f c into windows: (n windows) length c."""
        return x[:, self.frames].view(-1, self.length, x.shape[-1])

    def blend(self, x: Tensor, n: int) -> Tensor:
        """Blend windows (n windows) length c into n f c."""
        x = x.reshape(n, -1, x.shape[-1])
        parts = ((x[:, place] * weight) for place, weight in zip(self.places, self.weights.to(x.dtype), strict=True))
        return reduce(add, parts)


class TransformerBlock(nn.Module):
    def __init__(self, channels: int, config: MotionModelConfig, operations: Any, **factory: Any):
        super().__init__()
        self.attention_blocks = nn.ModuleList(
            TemporalAttention(channels, config, operations, **factory) for _ in range(config.attentions)
        )
        self.norms = nn.ModuleList(operations.LayerNorm(channels, **factory) for _ in range(config.attentions))
        self.ff = FeedForward(channels, operations, **factory)
        self.ff_norm = operations.LayerNorm(channels, **factory)

    def forward(
        self,
        x: Tensor,
        motion_scale: Amount,
        windows: AttentionWindows | None,
        merge: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        if windows is None:
            x = self.attend(x, motion_scale, merge)
        else:
            motion_scale = windows.split(motion_scale) if isinstance(motion_scale, Tensor) else motion_scale
            x = windows.blend(self.attend(windows.split(x), motion_scale, merge), len(x))
        return add(x, self.ff(self.ff_norm(x)))

    def attend(self, x: Tensor, motion_scale: Amount, merge: Callable[[Tensor], Tensor] | None) -> Tensor:
        for norm, attention in zip(self.norms, self.attention_blocks, strict=True):
            x = add(x, attention(norm(x), motion_scale, merge))
            merge = None
        return x


class TemporalTransformer(nn.Module):
    def __init__(self, channels: int, config: MotionModelConfig, operations: Any, **factory: Any):
        super().__init__()
        self.norm_over_frames = config.norm_over_frames
        self.norm = operations.GroupNorm(config.norm_groups, channels, eps=1e-6, **factory)
        self.proj_in = operations.Linear(channels, channels, **factory)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(channels, config, operations, **factory) for _ in range(config.transformer_blocks)
        )
        self.proj_out = operations.Linear(channels, channels, **factory)

    def forward(
        self,
        x: Tensor,
        frames: int,
        strength: Amount,
        motion_scale: Amount,
        windows: AttentionWindows | None,
        merge: Merge | None,
    ) -> Tensor:
        """Return x + strength * branch(x) for x, (b f) c h w.

        Only the norm looks at several pixels and only the attention at several frames, so the pixels' tokens are laid
        out once, frames side by side, and put back once.
        """
        b, f, c, d = x.shape[0] // frames, frames, x.shape[1], x.shape[2] * x.shape[3]
        tokens, scale = self.to_tokens(x, b=b, f=f, c=c, d=d), motion_scale
        if isinstance(scale, Tensor):
            scale = scale.expand(b * f, 1, *x.shape[2:]).reshape(b, f, d).transpose(1, 2).reshape(b * d, f, 1)
        if torch.is_grad_enabled():
            tokens = self.branch(tokens, scale, windows, merge)
        else:
            rows = chunk_rows(tokens)
            for i, chunk in enumerate(tokens.split(rows)):  # exact: no operation crosses pixels
                part = scale[i * rows :][:rows] if isinstance(scale, Tensor) else scale
                chunk.copy_(self.branch(chunk, part, windows, merge, i * rows))
        branch = tokens.view(b, d, f, c).permute(0, 2, 3, 1).reshape(x.shape)
        return add(branch if isinstance(strength, float) and strength == 1.0 else branch * strength, x)

    def to_tokens(self, x: Tensor, b: int, f: int, c: int, d: int) -> Tensor:
        """Return (b f) c h w as normalised tokens (b d) f c, contiguous and not shared with x."""
        if self.norm_over_frames:
            x = self.norm(x.reshape(b, f, c, d).transpose(1, 2).reshape(b, c, f * d))
            return x.view(b, c, f, d).permute(0, 3, 2, 1).reshape(b * d, f, c)
        return self.norm(x).reshape(b, f, c, d).permute(0, 3, 1, 2).reshape(b * d, f, c)

    def branch(
        self, x: Tensor, motion_scale: Amount, windows: AttentionWindows | None, merge: Merge | None, row: int = 0
    ) -> Tensor:
        x, first = self.proj_in(x), merge and (lambda tokens: merge(tokens, row))
        for block in self.transformer_blocks:
            x, first = block(x, motion_scale, windows, first), None
        return self.proj_out(x)


def chunk_rows(tokens: Tensor) -> int:
    """Return how many of the rows of tokens, (b d) f c, go through a temporal transformer at once."""
    budget = CHUNK_BYTES_CPU if tokens.device.type == "cpu" else CHUNK_BYTES_GPU
    bytes_per_row = 8 * tokens.shape[1] * tokens.shape[2] * tokens.element_size()
    return max(1, min(budget // bytes_per_row, MAX_ROWS))


class MotionModule(nn.Module):
    """The temporal transformer of one place in the UNet."""

    def __init__(self, channels: int, config: MotionModelConfig, operations: Any, **factory: Any):
        super().__init__()
        self.temporal_transformer = TemporalTransformer(channels, config, operations, **factory)

    def forward(
        self,
        x: Tensor,
        frames: int,
        strength: Amount = 1.0,
        motion_scale: Amount = 1.0,
        windows: AttentionWindows | None = None,
        merge: Merge | None = None,
    ) -> Tensor:
        """Return x + strength * branch(x) in x's dtype, for x, (b f) c h w with frames running fastest.

        `frames` is the number of frames in this call. It may not exceed the length of the positional encoding; with
        `windows`, their length may not.
        """
        if isinstance(strength, float) and strength == 0.0:
            return x
        amounts = {"strength": strength, "motion_scale": motion_scale}
        return self.temporal_transformer(x, frames, **amounts, windows=windows, merge=merge)


class MotionBlock(nn.Module):
    def __init__(self, channels: tuple[int, ...], config: MotionModelConfig, operations: Any, **factory: Any):
        super().__init__()
        self.motion_modules = nn.ModuleList(MotionModule(c, config, operations, **factory) for c in channels)


class MotionModel(nn.Module):
    """The motion modules of a UNet: `down_blocks`, `up_blocks` and, if the family has them, `mid_block` and the part
    that sees pictures."""

    def __init__(
        self,
        config: MotionModelConfig,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        operations: Any = nn,
    ):
        super().__init__()
        self.config, self.dtype = config, dtype
        factory = {"dtype": dtype, "device": device}
        self.down_blocks = nn.ModuleList(MotionBlock(c, config, operations, **factory) for c in config.down)
        self.mid_block = MotionBlock(config.mid, config, operations, **factory) if config.mid else None
        self.up_blocks = nn.ModuleList(MotionBlock(c, config, operations, **factory) for c in config.up)
        if config.picture_input:
            channels = [c for c, *_ in config.down]
            self.add_module(config.picture_input, PICTURE_INPUTS[config.picture_input](channels, operations, **factory))


def zero_output(model: MotionModel) -> None:
    """Make every module the identity, from which training starts (section 4.2: zero-initialised output)."""
    for module in model.modules():
        if isinstance(module, TemporalTransformer):
            nn.init.zeros_(module.proj_out.weight)
            nn.init.zeros_(module.proj_out.bias)
