"""Touches comfy. Runs a motion model inside a MODEL's UNet, through the wrappers that ComfyUI offers for it.

Nothing outlives a UNet call, and what a sampling run needs sits in that run's own options. A call in which the motion
model rests is the bare UNet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import comfy.patcher_extension
import torch
from comfy_api.torch_helpers.torch_compile import COMPILE_KEY

from ..motion_models.motion_model import AttentionWindows
from ..motion_models.schedules import AUTOMATIC, set_beta_schedule
from ..motion_models.unet import group_norms_over_frames, motion_hooks, unet_norms, unet_slots
from .patchers import KEY, add_motion_model, patcher_on
from .strength import Area, CallStrength, ClipStrength, MotionStrength, moment_of, moments

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..motion_models.loader import LoadedMotionModel
    from ..motion_models.motion_model import MotionModel

# Gives a run context windows of that many frames: (the run's model_options, frames) -> None.
UseWindows = Callable[[dict[str, Any], int], None]

NORMS_OVER_FRAMES = f"{KEY}.norms_over_frames"
Wrapper = comfy.patcher_extension.WrappersMP


@dataclass(frozen=True)
class MotionSettings:
    """How a motion model is applied. `strength` scales what it adds to the UNet's features, `motion_scale` the keys of
    its attention, and `options` both; it works from `start_percent` to `end_percent` of the sampling."""

    strength: float = 1.0
    motion_scale: float = 1.0
    start_percent: float = 0.0
    end_percent: float = 1.0
    beta_schedule: str = AUTOMATIC
    options: tuple[MotionStrength, ...] = ()


def apply_motion_model(
    model: ModelPatcher, motion: LoadedMotionModel, settings: MotionSettings, use_windows: UseWindows
) -> ModelPatcher:
    """A clone of `model` whose frames move; several can be applied one after the other.

    Raises ValueError if the motion model was made for another UNet. `use_windows` is asked for context windows when a
    clip is longer than the positional encoding and the user has set none.
    """
    check_base(model, motion)
    model = model.clone()
    if settings.strength == 0.0:
        return model
    key = add_motion_model(model, motion.patcher)
    automatic = settings.beta_schedule == AUTOMATIC
    set_beta_schedule(model, motion.family.beta_schedule if automatic else settings.beta_schedule)
    injection = Injection(key, motion, settings, use_windows)
    model.add_wrapper_with_key(Wrapper.OUTER_SAMPLE, key, injection.outer_sample)
    model.add_wrapper_with_key(Wrapper.APPLY_MODEL, key, injection.apply_model)
    return model


def check_base(model: ModelPatcher, motion: LoadedMotionModel) -> None:
    """ValueError if the UNet's channels are not those that the motion model was made for."""
    wanted = motion.config.channels_by_name()
    found = {slot.name: slot.channels for slot in unet_slots(model.get_model_object("diffusion_model"))}
    if not motion.config.mid:
        found.pop("mid_block.motion_modules.0", None)
    if found != wanted:
        raise ValueError(
            f"{motion.name} is {article(motion.family.name)} module for {motion.family.base}, a UNet with "
            f"{levels(wanted)} channels, but this {type(model.model).__name__} model has {levels(found)}: use a "
            "checkpoint of the base it was made for."
        )
    if is_stable_diffusion_2(model):
        raise ValueError(
            f"{motion.name} is {article(motion.family.name)} module for {motion.family.base}, but this is a model of "
            "Stable Diffusion 2's kind: use a checkpoint of the base it was made for."
        )


def is_stable_diffusion_2(model: ModelPatcher) -> bool:
    """Whose UNet has the channels of Stable Diffusion 1.5's; its text encoder gives 1024 features a token."""
    return model.model.model_config.unet_config.get("context_dim") == 1024


def article(name: str) -> str:
    return f"an {name}" if name[0] in "AEIOU" else f"a {name}"


def levels(channels_by_name: dict[str, int]) -> str:
    """Channels per level of the way down, for people: "320/640/1280/1280"."""
    down = {name.split(".")[1]: c for name, c in channels_by_name.items() if name.startswith("down_blocks.")}
    return "/".join(map(str, down.values())) or "no SD-like blocks"


@dataclass(frozen=True)
class Run:
    """What one sampling run knows. Lives in that run's transformer_options, never on a shared object."""

    guider: Any
    strength: ClipStrength
    start_sigma: float
    end_sigma: float
    moments: list[float]
    """Noise levels of the strength's curves over the sampling; empty if it has none."""
    made: dict[torch.device, tuple[Any, AttentionWindows]] = field(default_factory=dict, compare=False)
    """The last windows for attention, and what they were made of."""

    def active(self, options: dict[str, Any]) -> bool:
        if self.start_sigma > 1e8 and self.end_sigma <= 0.0:  # all of it: no need to ask the GPU
            return True
        return self.end_sigma < options["sigmas"][0].item() <= self.start_sigma

    def attention_windows(self, frames: int, device: torch.device) -> AttentionWindows | None:
        """What Sliding Context has set for the temporal attention of this step, if anything, in a call of that many
        frames."""
        inside = getattr(self.guider.model_options.get("context_handler"), "inside", None)
        if inside is None or frames != self.strength.frames:
            return None
        if device not in self.made or self.made[device][0] is not inside:
            windows, weights = inside
            self.made[device] = inside, AttentionWindows.of(windows, weights, device)
        return self.made[device][1]

    def frames_at_once(self, options: dict[str, Any]) -> int | None:
        """Frames of the clip that a call holds for each cond; None if another pack's context handler does not say."""
        window = options.get("context_window")
        if window is not None:
            return len(frames_of_window(window)) // getattr(window, "clips", 1)
        handler = self.guider.model_options.get("context_handler")
        divided = handler is not None and getattr(handler, "context_length", 1) < self.strength.frames
        return None if divided else self.strength.frames

    def strength_of_call(self, x: torch.Tensor, options: dict[str, Any]) -> CallStrength:
        """For a UNet call with x, (b f) c h w."""
        moment = moment_of(options["sigmas"][0].item(), self.moments) if self.moments else 0
        areas = self.areas(x, options) if self.strength.has_regions else (None,) * len(options["cond_or_uncond"])
        return CallStrength(self.strength, moment, options["ad_params"]["sub_idxs"], areas)

    def areas(self, x: torch.Tensor, options: dict[str, Any]) -> tuple[Area | None, ...]:
        """Which part of the latent each cond of a call sees. ValueError if nothing says which."""
        h, w = x.shape[-2:]
        corners = {cond["uuid"]: cond["area"][-2:] for kind in self.guider.conds.values() for cond in kind
                   if "area" in cond}  # fmt: skip
        own_names = getattr(options.get("context_window"), "prompts", {})
        uuids = [own_names.get(uuid, uuid) for uuid in options["uuids"]]
        if (h, w) != self.strength.latent and not corners.keys() >= set(uuids):
            raise ValueError(
                "Another node divides the picture into tiles, and nothing says which part each is: "
                "use a Motion Curve without masks, or remove that node."
            )
        return tuple((h, w, *corners[uuid]) if uuid in corners else None for uuid in uuids)


@dataclass(frozen=True)
class Injection:
    """One motion model applied to one MODEL."""

    key: str
    motion: LoadedMotionModel
    settings: MotionSettings
    use_windows: UseWindows

    def outer_sample(self, executor, noise: torch.Tensor, *args, **kwargs):
        """Around a whole sampling run: noise is (f, c, h, w)."""
        guider, frames = executor.class_obj, noise.shape[0]
        if frames == 1:
            logging.info(
                f"AnimateDiff: a single frame has no motion, {self.motion.name} is bypassed but for its noise schedule."
            )
            return executor(noise, *args, **kwargs)
        self.fit_length(frames, guider.model_options)
        own = MotionStrength(self.settings.strength, self.settings.motion_scale)
        size = (noise.shape[-2], noise.shape[-1])
        strength = ClipStrength.of((own, *self.settings.options), self.motion.config.levels(), frames, size)
        sigma = guider.model_patcher.get_model_object("model_sampling").percent_to_sigma
        start, end = map(sigma, (self.settings.start_percent, self.settings.end_percent))
        falling = moments(sigma) if strength.over_sampling else []
        options = guider.model_options.setdefault("transformer_options", {})
        options[self.key] = Run(guider, strength, start, end, falling)
        leave_out_compilation(options.get("wrappers", {}))
        latent = executor(noise, *args, **kwargs)
        refuse_nan(latent)
        return latent

    def fit_length(self, frames: int, model_options: dict[str, Any]) -> None:
        """See that no UNet call gets more frames than there are positions, before sampling starts."""
        limit, handler = self.motion.config.pe_length, model_options.get("context_handler")
        if handler is None and frames > limit:
            logging.info(f"AnimateDiff: {frames} frames are more than the {limit} of {self.motion.name}, "
                         "Sliding Context with its defaults is used.")  # fmt: skip
            self.use_windows(model_options, min(limit, self.motion.family.trained_frames))
        elif handler is not None:
            length = getattr(handler, "context_length", 1)
            # Core's own windows hold one frame more than they say, the one before them.
            extra = frames > length and getattr(handler, "causal_window_fix", False)
            self.check_length(min(frames, length + extra), extra)

    def check_length(self, frames: int, extra: int = 0) -> None:
        limit = self.motion.config.pe_length
        if frames > limit:
            raise ValueError(
                f"{frames} frames at once are more than the {limit} that {self.motion.name} was made for: "
                f"set the context length to {limit - extra} or less."
            )

    def apply_model(
        self, executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs
    ):
        """Around one UNet call: x is (b f) c h w."""
        options = transformer_options or {}
        run = options.get(self.key)
        if run is None or not run.active(options):
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
        frames = frames_per_clip(x, options, run.frames_at_once(options))
        windows = run.attention_windows(frames, x.device)
        self.check_length(windows.length if windows else frames)
        options = {"ad_params": ad_params(run.strength.frames, frames, options), **options}
        strength = run.strength_of_call(x, options)
        if strength.rests:
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
        unet = executor.class_obj.diffusion_model
        with ExitStack() as stack:
            if self.motion.family.unet_norms_over_frames and not options.get(NORMS_OVER_FRAMES):
                options[NORMS_OVER_FRAMES] = True  # once, however many such modules this MODEL has
                stack.enter_context(group_norms_over_frames(unet_norms(unet), frames))
            device = options.get("multigpu_thread_device", x.device)
            model: MotionModel = patcher_on(device, run.guider.model_patcher, self.key).model
            stack.enter_context(motion_hooks(unet_slots(unet), model, frames, strength, windows))
            return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)


def leave_out_compilation(wrappers: dict[str, dict[str, Any]]) -> None:
    """Take ComfyUI's torch.compile out of a run's own wrappers: a graph that was compiled in a resting step would be
    used without the hooks in the next, and all GPUs would use one UNet."""
    if wrappers.get(Wrapper.APPLY_MODEL, {}).pop(COMPILE_KEY, None):
        logging.info("AnimateDiff: torch.compile is left out of animated clips.")


def frames_per_clip(x: torch.Tensor, options: dict[str, Any], known: int | None = None) -> int:
    """Frames in this call that belong together: the batch holds all frames of one cond after the other, and those of
    one window after the other where Sliding Context puts several into a call. With the `known` number of them, another
    node may have put several clips after each other for a cond, such as the tiles of a large picture."""
    conds, windows = len(options["cond_or_uncond"]), getattr(options.get("context_window"), "clips", 1)
    if x.shape[0] % (conds * windows):
        raise ValueError(f"A batch of {x.shape[0]} latents cannot be shared by {conds} prompts: give each all frames.")
    frames = x.shape[0] // (conds * windows)
    if known is not None and frames % known:
        raise ValueError(
            f"A call of the model holds {frames} frames where {known} belong together: another node divides the batch; "
            "remove it, or set it to leave the batch whole."
        )
    return known or frames


def frames_of_window(window: Any) -> list[int]:
    """The frames of the clip that a call of this context window holds."""
    anchor = getattr(window, "causal_anchor_index", None)  # a frame that core puts before the window's own
    return [*([] if anchor is None else [anchor]), *window.index_list]


def ad_params(total_frames: int, frames: int, options: dict[str, Any]) -> dict[str, Any]:
    """What other packs (IPAdapter_plus, Advanced-ControlNet) read to slice their per-frame inputs to a window."""
    window = options.get("context_window")
    indices = frames_of_window(window) if window is not None and frames < total_frames else None
    return {"full_length": total_frames, "context_length": frames, "sub_idxs": indices}


def refuse_nan(latent: torch.Tensor) -> None:
    """ValueError naming the first frame that is not finite; latent is (f, c, h, w)."""
    if torch.isfinite(latent.sum()):
        return
    finite = torch.isfinite(latent).flatten(1).all(dim=1)
    if not finite.all():
        raise ValueError(
            f"Sampling gave NaN or infinite values from frame {int((~finite).nonzero()[0])} on: start ComfyUI with "
            "--force-upcast-attention or --fp32-unet, or lower the motion module's strength."
        )
