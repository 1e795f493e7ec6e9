"""Touches comfy. Lets the subjects of a clip follow paths, by the early steps alone and without training.

Two methods that were published apart, measured together by demo/paths.py:

- Self-attention prefers places of the same subject and keeps the rest apart (Peekaboo, arXiv 2312.07509).
- The words that mean a subject attract the places in its box and no others (TrailBlazer, arXiv 2401.00896).

Noise that travels along the path (FreeTraj, arXiv 2406.16863), and temporal attention, changed nothing beyond them.

What a place i gives a key j, beyond what the model says, is a product of two numbers. So it rides in added channels of
queries and keys, with any kernel and without a mask, which would take gigabytes.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import comfy.patcher_extension
import torch
import torch.nn.functional as F
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

from .calls import CallFrames
from .clips import areas_of_call, prepare_clips
from .motion_paths import MotionPath, coverage
from .other_nodes import plain_models
from .reference import is_replaced
from .strength import count_tiles, in_view

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

KEY = "animatediff_native.paths"
OVERRIDE = "optimized_attention_override"
Wrapper = comfy.patcher_extension.WrappersMP
TOGETHER = 5.0  # added to the logits between places of a subject, and taken from those of other places to it
INSIDE, OUTSIDE = 3.0, -5.0  # added to the logits of a subject's words


@dataclass(frozen=True)
class Run:
    """What one sampling run knows of the paths."""

    guider: Any
    frames: int
    latent_size: tuple[int, int]
    end_sigma: float
    covered: tuple[Tensor, ...]
    """(frames, h, w) of the latent for each path."""
    plain_models: tuple[Any, ...] = ()

    def see_words(self, call: CallFrames, options: dict[str, Any]) -> list[bool]:
        """Return which prompts of a call the words are added to: all but negative ones, as guiders name them."""
        conds = (cond for name, kind in self.guider.conds.items() if "negative" not in name for cond in kind)
        positive = {cond["uuid"] for cond in conds}
        return [call.prompts.get(uuid, uuid) in positive for uuid in options["uuids"]]


@dataclass(frozen=True)
class FollowPaths:
    """The settings of one Follow Paths node."""

    paths: tuple[MotionPath, ...]
    strength: float = 1.0
    end_percent: float = 0.3

    def outer_sample(self, executor, noise: Tensor, latent, sampler, sigmas: Tensor, *args, **kwargs):
        """Wrap a whole sampling run; noise is (f, c, h, w)."""
        guider = executor.class_obj
        model = guider.model_patcher
        self.check(model, noise)
        size = (noise.shape[-2], noise.shape[-1])
        end = model.get_model_object("model_sampling").percent_to_sigma(self.end_percent)
        if len(sigmas) and sigmas[0] <= end:
            logging.info("Follow Paths: it does little, since sampling begins after its end_percent.")
        options = guider.model_options.setdefault("transformer_options", {})
        options[KEY] = Run(
            guider,
            frames=len(noise),
            latent_size=size,
            end_sigma=end,
            covered=tuple(coverage(path.boxes, size) for path in self.paths),
            plain_models=tuple(plain.diffusion_model for plain in plain_models(guider)),
        )
        return executor(noise, latent, sampler, sigmas, *args, **kwargs)

    def check(self, model: ModelPatcher, noise: Tensor) -> None:
        """Raise ValueError unless the paths belong to a clip of this noise and to this model."""
        if noise.ndim != 4 or not isinstance(model.get_model_object("diffusion_model"), UNetModel):
            raise ValueError("Follow Paths is for SD1.5 and SDXL models: remove it, or load another checkpoint.")
        for path in self.paths:
            if len(path.boxes) != len(noise):
                raise ValueError(
                    f"The paths have {len(path.boxes)} frames, but the clip {len(noise)}: set the same number in "
                    "Motion Path and in the latent."
                )
            width = model.model.model_config.unet_config.get("context_dim")
            if path.words is not None and path.words.shape[-1] != width:
                raise ValueError(
                    f"The words of a path have {path.words.shape[-1]} features a token, but this model takes {width}: "
                    "connect the text encoder of this checkpoint to Motion Path."
                )

    def diffusion_model(self, executor, x: Tensor, t, context, y, control, options: dict[str, Any], **kwargs):
        """Wrap one UNet call; x is (b f) c h w."""
        run: Run | None = options.get(KEY)
        if run is None or executor.class_obj in run.plain_models or options["sigmas"][0].item() <= run.end_sigma:
            return executor(x, t, context, y, control, options, **kwargs)
        call = CallFrames.from_options(run.frames, options) or CallFrames(run.frames, run.frames)
        areas = areas_of_call(run.guider, run.latent_size, x, call, options)
        tiles = count_tiles(x, call, len(areas))
        sees = torch.tensor(run.see_words(call, options)).repeat_interleave(len(call.frames)).repeat(tiles)
        rows = tuple(chosen.nonzero().flatten().to(x.device) for chosen in (sees, ~sees))

        @functools.cache  # most attentions share their size with others
        def covered(size: tuple[int, int]) -> Tensor:
            views = [in_view(of_path, call, areas=areas, size=size).flatten(1) for of_path in run.covered]
            return torch.stack(views, dim=-1).repeat(tiles, 1, 1).to(x)

        steered = SteeredAttention(self, covered, rows, options)
        return executor(x, t, context, y, control, steered.options(), **kwargs)


@dataclass
class SteeredAttention:
    """The attentions of one UNet call, as ComfyUI's patches and its override of the attention function."""

    settings: FollowPaths
    covered: Callable[[tuple[int, int]], Tensor]
    """From a size (h, w) to (b f) d s: how much of each place each subject covers."""
    rows: tuple[Tensor, ...]
    """Rows (n) of the prompts that the words are added to, and those of the others."""
    outer: dict[str, Any]
    """The call's options without them."""
    factors: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    """Of the attention at hand, if it is steered."""
    words: list[Tensor] = field(default_factory=list)

    def __post_init__(self):
        self.words = [path.words for path in self.settings.paths if path.words is not None]

    def options(self) -> dict[str, Any]:
        patches = dict(self.outer.get("patches", {}))
        for name, patch in (("attn1_patch", self.see_places), ("attn2_patch", self.see_words)):
            patches[name] = [*patches.get(name, []), patch]
        return {**self.outer, "patches": patches, OVERRIDE: self.attend}

    def see_places(self, n: Tensor, context: Tensor, value: Tensor, _: dict[str, Any]) -> tuple[Tensor, ...]:
        self.factors = self.of_places
        return n, context, value

    def see_words(self, n: Tensor, context: Tensor, value: Tensor, options: dict[str, Any]) -> tuple[Tensor, ...]:
        """Add the words of all subjects to a prompt's."""
        replaced = self.outer.get("patches_replace", {}).get("attn2", {})
        self.factors = self.of_words if self.words and not is_replaced(options, replaced) else None
        if self.factors is None:
            return n, context, value
        more = torch.cat(self.words).to(context).expand(len(context), -1, -1)
        longer = torch.cat((context, more), dim=1)
        return n, longer, longer if value is context else torch.cat((value, more), dim=1)

    def attend(self, attention: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, heads: int, *args, **kwargs):
        """Attend as the model does, with the products of places and keys added to the logits."""
        if self.outer.get(OVERRIDE) is not None:
            attention = functools.partial(self.outer[OVERRIDE], attention)
        if self.factors is None:
            return attention(q, k, v, heads, *args, **kwargs)
        size = tuple(kwargs.get("transformer_options", {}).get("activations_shape", (0, 0))[-2:])
        whole = q.shape[1] == size[0] * size[1] and not kwargs.get("skip_reshape")
        covered = self.covered(size) if whole else q[:0]
        fits = len(covered) == len(q)  # unlike where another node attends to tiles or to fewer places
        if self.factors == self.of_places:
            if not fits or k.shape[1] < q.shape[1]:
                return attention(q, k, v, heads, *args, **kwargs)
            return attend_with(attention, q, k, v, heads, *args, factors=self.of_places(covered, k), **kwargs)
        out, words = torch.empty_like(q), sum(map(len, self.words))
        seeing, blind = self.rows if fits else (q.new_empty(0, dtype=torch.long), torch.arange(len(q), device=q.device))
        if len(seeing):
            factors = self.of_words(covered[seeing], k[seeing])
            out[seeing] = attend_with(
                attention, q[seeing], k[seeing], v[seeing], heads, *args, factors=factors, **kwargs
            )
        if len(blind):
            out[blind] = attention(q[blind], k[blind, :-words], v[blind, :-words], heads, *args, **kwargs)
        return out

    def of_places(self, covered: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Return factors for queries (b f) d s and for keys, whose first d are the places."""
        pull = self.settings.strength * TOGETHER
        return pull * (2.0 * covered - 1.0), F.pad(covered, (0, 0, 0, k.shape[1] - covered.shape[1]))

    def of_words(self, covered: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Return factors for queries (b f) d s and for keys, whose last are the words of each subject in turn.

        Words weigh more with strength, and at strength 0 nothing.
        """
        named = [i for i, path in enumerate(self.settings.paths) if path.words is not None]
        pull = OUTSIDE + (INSIDE - OUTSIDE) * covered[..., named] + math.log(self.settings.strength)
        subject = torch.block_diag(*(torch.ones(len(words), 1) for words in self.words)).to(k)
        return pull, F.pad(subject, (0, 0, k.shape[1] - len(subject), 0)).expand(len(k), -1, -1)


def attend_with(
    attention: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, heads: int, *args, factors, **kwargs
) -> Tensor:
    """Return the attention of q to k and v, n t (heads c), with factors (n tq s) (n tk s)' added to its logits.

    They ride in s more channels of each head, filled up to a multiple of 8, which kernels need.
    """
    channels = q.shape[-1] // heads
    wider = math.ceil((channels + factors[0].shape[-1]) / 8) * 8
    scale = math.sqrt(wider)  # by which attention divides its logits

    def widened(x: Tensor, more: Tensor) -> Tensor:
        more = F.pad(more.to(x), (0, wider - channels - more.shape[-1]))[:, :, None].expand(-1, -1, heads, -1)
        return torch.cat((x.unflatten(-1, (heads, channels)), more), dim=-1).flatten(2)

    q = widened(q * (scale / math.sqrt(channels)), factors[0] * scale)
    out = attention(q, widened(k, factors[1]), widened(v, v[..., :0]), heads, *args, **kwargs)
    return out.unflatten(-1, (heads, wider))[..., :channels].flatten(2)


def follow_paths(model: ModelPatcher, settings: FollowPaths) -> ModelPatcher:
    """Return a clone of `model` whose clips follow the paths, in place of those of an earlier Follow Paths.

    At strength 0 it is the model as it was.
    """
    model = model.clone()
    if model.get_wrappers(Wrapper.OUTER_SAMPLE, KEY):
        logging.info("Follow Paths: it replaces the Follow Paths before it.")
    wrappers = {Wrapper.OUTER_SAMPLE: settings.outer_sample, Wrapper.DIFFUSION_MODEL: settings.diffusion_model}
    for kind, wrapper in wrappers.items():
        model.remove_wrappers_with_key(kind, KEY)
        if settings.strength > 0.0:
            model.add_wrapper_with_key(kind, KEY, wrapper)
    return prepare_clips(model) if settings.strength > 0.0 else model
