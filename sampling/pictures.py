"""Touches comfy. Keyframes in a sampling run, as motion models see them that take pictures.

PIA (arXiv 2312.13964) sees, beside every noisy frame, the nearest picture and its *affinity*: how much the frame is to
be like it. AnimateLCM-I2V adds its encoder's features of the nearest picture to those of the UNet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import comfy.model_management
import torch
import torch.nn.functional as F
from torch import Tensor

from ..motion_models.motion_model import Amount, sinusoids
from ..motion_models.picture_inputs import LCM_ENCODER, PIA_CONV
from .calls import CallFrames
from .curves import Curve, spread
from .keyframes import Keyframes
from .progress import show_keyframes
from .strength import Area, Factor, count_tiles, cropped

if TYPE_CHECKING:
    from ..motion_models.motion_model import MotionModel, MotionModelConfig
    from ..motion_models.unet import Slot

# How much a frame is like the picture when it is 0, 1, 2, ... frames away from it; the last number holds from there on.
# Those of a loop go once through the clip. From PIA's code, RANGE_LIST in animatediff/utils/util.py.
AFFINITIES: dict[str, tuple[float, ...]] = {
    "small": (1.0, 0.9, 0.85, 0.85, 0.85, 0.8),
    "moderate": (1.0, 0.8, 0.8, 0.8, 0.79, 0.78, 0.75),
    "large": (1.0, 0.8, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.6, 0.5, 0.5),
    "small loop": (1.0, 0.9, 0.85, 0.85, 0.85, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.85, 0.85, 0.9, 1.0),
    "moderate loop": (1.0, 0.8, 0.8, 0.8, 0.79, 0.78, 0.75, 0.75, 0.75, 0.75, 0.75, 0.78, 0.79, 0.8, 0.8, 1.0),
    "large loop": (1.0, 0.8, 0.7, 0.7, 0.7, 0.7, 0.6, 0.5, 0.5, 0.6, 0.7, 0.7, 0.7, 0.7, 0.8, 1.0),
    "small style transfer": (0.5, 0.4, 0.4, 0.4, 0.35, 0.3),
    "moderate style transfer": (0.5, 0.4, 0.4, 0.4, 0.35, 0.35, 0.3, 0.25, 0.2),
    "large style transfer": (0.5, 0.2),
    "none": (1.0,),
}
ENCODED_AT_ONCE = 16  # frames


@dataclass(frozen=True)
class PictureSettings:
    """Keyframes, and how a motion model follows them."""

    keyframes: Keyframes | None = None
    motion: str = "small"
    """PIA's affinities, a key of `AFFINITIES`."""
    strength: float | Curve = 1.0
    """Multiplies PIA's affinities, or the features of AnimateLCM-I2V."""
    drift: float = 0.8
    """Multiplies the encoding of the frames by which AnimateLCM-I2V's encoder tells them apart: its `motion_scale`."""

    def idle(self, picture_input: str) -> list[str]:
        """Return the names of what was set and does nothing with that part of a motion model."""
        used = {PIA_CONV: ("motion", "strength"), LCM_ENCODER: ("strength", "drift")}
        in_use = used.get(picture_input, ()) if self.keyframes else ()
        changed = (f.name for f in fields(self) if f.name != "keyframes" and getattr(self, f.name) != f.default)
        return [f"keyframe_{name}" for name in changed if name not in in_use]


NO_PICTURES = PictureSettings()


def is_loop(motion: str) -> bool:
    return motion.endswith(" loop")


def distance(frame: int, place: int, clip: int, loop: bool) -> int:
    away = abs(frame - place)
    return min(away, clip - away) if loop else away


def nearest_picture(places: Sequence[int], clip: int, loop: bool) -> list[int]:
    """Return for each frame which of the pictures is the nearest, the earlier one of two that are equally near
    (`prepare_masked_latent_cond` in PIA's code)."""
    by_place = sorted(range(len(places)), key=lambda i: places[i])
    return [min(by_place, key=lambda i: distance(frame, places[i], clip=clip, loop=loop)) for frame in range(clip)]


def affinities(motion: str, places: Sequence[int], clip: int) -> Tensor:
    """Return PIA's affinity of each frame of a clip with pictures at `places`, (clip,).

    Around several pictures it falls evenly from the table's first number to its lowest, half a clip away
    (`prepare_mask_coef_multi_cond` in PIA's code, which is for a first and a last picture).
    """
    table, loop = AFFINITIES[motion], is_loop(motion)
    if len(places) == 1 and loop:
        return spread(table, clip).flatten().roll(places[0])
    away = torch.tensor(
        [min(distance(frame, place, clip=clip, loop=loop) for place in places) for frame in range(clip)]
    )
    if len(places) == 1:
        return torch.tensor(table)[away.clamp_max(len(table) - 1)]
    return table[0] - (table[0] - min(table)) * (away / max((clip - 1) // 2, 1)).clamp_max(1.0)


@dataclass(frozen=True, eq=False)
class ClipPictures:
    """The keyframes of one clip in one sampling run, for one motion model."""

    settings: PictureSettings
    clip: int
    nearest: list[int]
    """Of each frame, the nearest picture."""
    away: list[int]
    """How many frames it is away from it."""
    affinity: Tensor
    strength: Factor
    encode: Callable[[tuple[int, int]], Tensor]
    """Returns the pictures' latents, n c h w, in a size h w."""
    latents: dict[tuple[int, int], Tensor]
    features: dict[Any, list[Tensor]] = field(default_factory=dict)
    """What AnimateLCM-I2V's encoder makes of them, clip c h w for each level."""

    @classmethod
    def begin(
        cls, settings: PictureSettings, config: MotionModelConfig, guider: Any, noise: Tensor
    ) -> ClipPictures | None:
        """Return them for noise (f, c, h, w); None without keyframes. ValueError if they do not fit the clip."""
        keyframes, clip, size = settings.keyframes, len(noise), (noise.shape[-2], noise.shape[-1])
        if keyframes is None:
            return None
        places, loop = keyframes.frames_of(clip), config.picture_input == PIA_CONV and is_loop(settings.motion)
        strength = Factor.product([settings.strength], (), levels=config.levels(), frames=clip, latent_size=size)

        def encode(size: tuple[int, int]) -> Tensor:
            latents = keyframes.latents(*size)
            if latents.ndim != 4 or latents.shape[1] != noise.shape[1]:
                raise ValueError(
                    f"The VAE of Keyframe Images gives latents of {latents.shape[1]} channels, but the model has "
                    f"{noise.shape[1]}: connect the checkpoint's own VAE."
                )
            return guider.model_patcher.model.process_latent_in(latents)

        nearest = nearest_picture(places, clip, loop)
        show_keyframes(keyframes, clip)
        return cls(
            settings,
            clip=clip,
            nearest=nearest,
            away=[abs(frame - places[picture]) for frame, picture in enumerate(nearest)],
            affinity=affinities(settings.motion, places, clip),
            strength=strength,
            encode=encode,
            latents={size: encode(size)},
        )

    def latents_in(self, size: tuple[int, int]) -> Tensor:
        """Return the pictures' latents in the size of a step; a sampler may change it in the middle of a run."""
        if size not in self.latents:
            in_use = comfy.model_management.loaded_models(only_currently_used=True)
            self.latents[size] = self.encode(size)
            comfy.model_management.load_models_gpu(in_use)  # those that made room for the VAE
        return self.latents[size]

    def view(self, call: CallFrames, moment: int, areas: Sequence[Area | None], size: tuple[int, int]) -> View:
        """Return what a UNet call sees, whose conds see these areas of a latent of that size."""
        amount = self.strength.in_call(call, moment, areas)
        return View(call, areas=areas, latents=self.latents_in(size), amount=amount)

    @contextmanager
    def hooks(self, model: MotionModel, unet: Any, slots: Sequence[Slot], view: View) -> Iterator[None]:
        """Let a UNet call within the context see the pictures through this motion model."""
        part, layers = model.get_submodule(model.config.picture_input), {slot.name: slot.layer for slot in slots}
        if model.config.picture_input == PIA_CONV:
            hooks = {unet.input_blocks[0][0]: self.pia_hook(part, view)}
        else:
            levels = range(len(model.config.down))
            hooks = {layers[f"down_blocks.{i}.motion_modules.1"]: self.lcm_hook(part, i, view) for i in levels}
        with ExitStack() as stack:
            for layer, hook in hooks.items():
                stack.callback(layer.register_forward_hook(hook).remove)
            yield

    def pia_hook(self, conv: torch.nn.Module, view: View) -> Callable[..., Tensor]:
        """Return the hook for the UNet's first convolution.

        PIA learned to go without a picture by zeros for both its affinity and its latent (section 3.2), so where the
        affinity is 0 there is no picture.
        """

        def hook(_layer: Any, _args: Any, out: Tensor) -> Tensor:
            frames = view.call.frames
            pictures = view.latents[[self.nearest[frame] for frame in frames]]
            pictures = view.of_batch([cropped(pictures, area) for area in view.areas], out)
            affinity = view.of_batch([self.affinity[frames].view(-1, 1, 1, 1)] * len(view.areas), out)
            affinity = (affinity * view.amount("down_blocks.0", out)).expand(-1, 1, *out.shape[2:])
            return out + conv(torch.cat([affinity, pictures * (affinity != 0.0)], dim=1))

        return hook

    def lcm_hook(self, encoder: torch.nn.Module, level: int, view: View) -> Callable[..., Tensor]:
        """Return the hook for the layer before the second motion module of a level's way down."""

        def hook(_layer: Any, _args: Any, out: Tensor) -> Tensor:
            of_areas = [self.features_of(encoder, area, view=view, like=out)[level] for area in view.areas]
            if view.call.indices is not None:
                of_areas = [features[view.call.frames] for features in of_areas]
            features = view.of_batch(of_areas, out)
            if features.shape != out.shape:  # another node samples the UNet's inner levels smaller
                features = F.interpolate(features, out.shape[-2:], mode="bilinear")
            amount = view.amount(f"down_blocks.{level}", out)
            return out + (features if isinstance(amount, float) and amount == 1.0 else features * amount)

        return hook

    def features_of(self, encoder: Any, area: Area | None, view: View, like: Tensor) -> list[Tensor]:
        """Return the encoder's features of all frames, once per run; for windows they wait in main memory."""
        key = (area, view.latents.shape, like.device)
        if key not in self.features:
            latents = cropped(view.latents, area).to(like)
            encodings = sinusoids(self.clip, encoder.conv_in.out_channels)[0, self.away]
            positions = self.settings.drift * encodings.to(like)
            nearest = torch.tensor(self.nearest, device=like.device)
            device = like.device if view.call.indices is None else torch.device("cpu")
            parts = [
                [features.to(device) for features in encoder(latents[frames], encoding)]
                for frames, encoding in zip(
                    nearest.split(ENCODED_AT_ONCE), positions.split(ENCODED_AT_ONCE), strict=True
                )
            ]
            self.features[key] = [torch.cat(level) for level in zip(*parts, strict=True)]
        return self.features[key]


@dataclass(frozen=True)
class View:
    """What one UNet call sees of the clip."""

    call: CallFrames
    areas: Sequence[Area | None]
    """Of each cond."""
    latents: Tensor
    """The pictures' latents, n c h w, in the size of the whole latent."""
    amount: Callable[[str, Tensor], Amount]
    """Gives the pictures' strength for a level of the UNet and its features."""

    def of_batch(self, of_areas: Sequence[Tensor], features: Tensor) -> Tensor:
        """Return what each cond's area holds, f c h w, for a batch (b f) c h w, on its device and in its dtype."""
        return torch.cat(list(of_areas)).to(features).repeat(count_tiles(features, self.call, len(self.areas)), 1, 1, 1)
