"""Touches comfy. Lets a MODEL sample the images of a batch as the frames of one clip, with a motion model in its UNet.

Everything goes through ComfyUI's wrappers, and through PyTorch forward hooks that live for one UNet call. What a
sampling run knows sits in that run's own options. A call in which the motion model rests is the bare UNet.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from threading import Event
from typing import TYPE_CHECKING, Any

import comfy.patcher_extension
import torch
from comfy_api.torch_helpers.torch_compile import COMPILE_KEY

from ..motion_models.schedules import AUTOMATIC, report_other_schedule, set_trained_schedule
from ..motion_models.unet import Slot, check_base, group_norms_over_frames, motion_hooks, unet_norms, unet_slots
from .calls import CallFrames
from .camera import ClipCamera
from .clips import STEP_SIZE, areas_of_call, check_base_of_inputs, prepare_clips
from .context_windows import ContextOptions, SlidingContext
from .other_nodes import check_detours, plain_models
from .patchers import KEY, add_motion_model, patcher_on
from .pictures import NO_PICTURES, ClipPictures, PictureSettings
from .strength import Area, ClipStrength, MotionStrength, moment_of, moments

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..motion_models.camera_ctrl import CameraCtrl
    from ..motion_models.loader import LoadedMotionModel
    from ..motion_models.motion_model import AttentionWindows, MotionModel

NORMS_OVER_FRAMES = f"{KEY}.norms_over_frames"
Wrapper = comfy.patcher_extension.WrappersMP


@dataclass(frozen=True)
class MotionSettings:
    """Settings with which a motion model is applied."""

    strength: float = 1.0
    """Scales what it adds to the UNet's features."""
    motion_scale: float = 1.0
    """Multiplies the keys of its attention."""
    start_percent: float = 0.0
    end_percent: float = 1.0
    """Parts of the sampling, from 0 to 1, between which it acts."""
    beta_schedule: str = AUTOMATIC
    motion_strength: tuple[MotionStrength, ...] = ()
    """Strengths and motion scales that change over frames, regions, levels or the sampling."""
    frame_rate: float | None = None
    """Frames per second of the live preview; None leaves it as it was."""
    pictures: PictureSettings = NO_PICTURES

    def __post_init__(self):
        if self.start_percent > self.end_percent:
            raise ValueError(
                f"A motion module from start_percent {self.start_percent:g} to end_percent {self.end_percent:g} never "
                "acts: let it end after it starts, or bypass Apply AnimateDiff."
            )


def animate(
    model: ModelPatcher, motion: LoadedMotionModel, settings: MotionSettings = MotionSettings()
) -> ModelPatcher:
    """Return a clone of `model` that samples a batch as one clip, with motion from `motion`.

    Several motion models can be applied one after the other. ValueError if this one was made for another UNet, or sees
    no pictures and is given some.
    """
    check_base(model, motion)
    check_pictures(motion, settings.pictures)
    model = model.clone()
    if settings.strength != 0.0:
        key = add_motion_model(model, motion.patcher)
        camera_key = add_motion_model(model, motion.camera.patcher) if motion.camera else ""
        sampling = set_trained_schedule(model, motion, settings.beta_schedule)
        if settings.start_percent == settings.end_percent:
            logging.warning(f"AnimateDiff: {motion.name} never acts: its start_percent is its end_percent.")
        wrappers = MotionWrappers(key, motion, settings, sampling=sampling, camera_key=camera_key)
        model.add_wrapper_with_key(Wrapper.OUTER_SAMPLE, wrappers.key, wrappers.outer_sample)
        model.add_wrapper_with_key(Wrapper.APPLY_MODEL, wrappers.key, wrappers.apply_model)
    return prepare_clips(model, settings.frame_rate)


def check_pictures(motion: LoadedMotionModel, pictures: PictureSettings) -> None:
    """Raise ValueError if there are keyframes that the motion model cannot see; log settings that do nothing."""
    if pictures.keyframes is not None and not motion.config.picture_input:
        raise ValueError(
            f"{motion.name} ({motion.family.name}) does not see pictures: load PIA or AnimateLCM-I2V, or connect the "
            "keyframes to Apply ControlNet with a SparseCtrl."
        )
    for name in pictures.idle(motion.config.picture_input):
        reason = f"with {motion.name}" if pictures.keyframes is not None else "without keyframes"
        logging.info(f"AnimateDiff: {name} does nothing {reason}.")


@dataclass(frozen=True)
class Run:
    """The state of one motion model in one sampling run. It lives in that run's transformer_options."""

    guider: Any
    frames: int
    latent_size: tuple[int, int]
    strength: ClipStrength
    start_sigma: float
    end_sigma: float
    moments: list[float]
    """Noise levels at which strength changes over the sampling; empty if it does not."""
    pictures: ClipPictures | None = None
    camera: ClipCamera | None = None
    plain_models: tuple[Any, ...] = ()
    """Models of the guider's that stay without motion."""
    reached: Event = field(default_factory=Event)
    """Set once a call of the UNet has come to the motion model."""
    slots_of: Callable[[torch.nn.Module], tuple[Slot, ...]] = field(default_factory=lambda: cache(unet_slots))
    norms_of: Callable[[torch.nn.Module], tuple[torch.nn.Module, ...]] = field(
        default_factory=lambda: cache(unet_norms)
    )
    """Both look a UNet up once; a run has one on each device."""

    def is_active(self, options: dict[str, Any]) -> bool:
        if self.start_sigma > 1e8 and self.end_sigma <= 0.0:  # the whole sampling: no need to ask the GPU
            return True
        return self.end_sigma < options["sigmas"][0].item() <= self.start_sigma

    def moment(self, options: dict[str, Any]) -> int:
        return moment_of(options["sigmas"][0].item(), self.moments) if self.moments else 0

    def call_frames(self, x: torch.Tensor, options: dict[str, Any]) -> CallFrames:
        """Return which frames a UNet call with x, (b f) c h w, holds.

        The batch holds all frames of one cond after the other. Another node may have put several clips after each
        other for a cond, such as the tiles of a large picture. ValueError if the batch cannot be divided so.
        """
        call = CallFrames.from_options(self.frames, options) or CallFrames(self.frames, self.frames)
        conds = len(options["cond_or_uncond"])
        frames, rest = divmod(len(x), conds * call.windows)
        if rest:
            raise ValueError(
                f"A batch of {len(x)} latents cannot be divided among {conds} prompts: remove the node "
                "that divides the batch."
            )
        handler = self.guider.model_options.get("context_handler")
        divides = handler is not None and getattr(handler, "context_length", 1) < self.frames
        if call.indices is None and divides:  # another pack's windows, which do not tell their frames
            return replace(call, length=frames)
        if frames % call.length:
            raise ValueError(
                f"The model was called with {frames} frames where {call.length} belong together: another node "
                "divides the batch; remove it, or set it to keep the batch whole."
            )
        return call

    def attention_windows(self, call: CallFrames, device: torch.device) -> AttentionWindows | None:
        """Return the windows that Sliding Context has set inside the motion modules for this step, if any."""
        handler = self.guider.model_options.get("context_handler")
        whole_clip = call.length == self.frames
        return handler.attention_windows(device) if isinstance(handler, SlidingContext) and whole_clip else None

    def areas(self, x: torch.Tensor, call: CallFrames, options: dict[str, Any]) -> tuple[Area | None, ...]:
        """Return which part of the latent each cond of a call sees; None is all of it. ValueError if nothing tells."""
        if not self.strength.has_regions and self.pictures is None and self.camera is None:
            return (None,) * len(options["cond_or_uncond"])
        return areas_of_call(self.guider, self.latent_size, x, call, options)


@dataclass(frozen=True)
class MotionWrappers:
    """One motion model applied to one MODEL, as wrappers around its sampling runs and UNet calls."""

    key: str
    motion: LoadedMotionModel
    settings: MotionSettings
    sampling: Any = None
    """ComfyUI's model_sampling with the schedule that this use has set."""
    camera_key: str = ""
    """The key of its CameraCtrl."""

    def outer_sample(self, executor, noise: torch.Tensor, latent, sampler, sigmas: torch.Tensor, *args, **kwargs):
        """Wrap a whole sampling run; noise is (f, c, h, w)."""
        guider = executor.class_obj
        check_base_of_inputs(guider, noise)
        if len(noise) == 1:
            logging.info(
                f"AnimateDiff: a single frame has no motion, so {self.motion.name} is bypassed except for its noise "
                "schedule."
            )
            return executor(noise, latent, sampler, sigmas, *args, **kwargs)
        report_other_schedule(guider.model_patcher, self.sampling, self.motion.name)
        self.fit_length(len(noise), guider.model_options)
        options = guider.model_options.setdefault("transformer_options", {})
        run = options[self.key] = self.begin(guider, noise)
        leave_out_compilation(options.get("wrappers", {}))
        latent = executor(noise, latent, sampler, sigmas, *args, **kwargs)
        if len(sigmas) > 1 and not run.reached.is_set():
            check_detours(guider.model_options)
        refuse_nan(latent)
        return latent

    def begin(self, guider: Any, noise: torch.Tensor) -> Run:
        frames, size = len(noise), (noise.shape[-2], noise.shape[-1])
        settings = (MotionStrength(self.settings.strength, self.settings.motion_scale), *self.settings.motion_strength)
        config = self.motion.config
        strength = ClipStrength.product(settings, levels=config.levels(), frames=frames, latent_size=size)
        pictures = ClipPictures.begin(self.settings.pictures, config, guider=guider, noise=noise)
        camera = ClipCamera.begin(self.motion.camera, config.levels(), noise)
        factors = [strength.strength, strength.motion_scale, *(part.strength for part in (pictures, camera) if part)]
        sigma = guider.model_patcher.get_model_object("model_sampling").percent_to_sigma
        return Run(
            guider=guider,
            frames=frames,
            latent_size=size,
            strength=strength,
            start_sigma=sigma(self.settings.start_percent),
            end_sigma=sigma(self.settings.end_percent),
            moments=moments(sigma) if any(len(factor.over_sampling) > 1 for factor in factors) else [],
            pictures=pictures,
            camera=camera,
            plain_models=plain_models(guider),
        )

    def fit_length(self, frames: int, model_options: dict[str, Any]) -> None:
        """See before sampling that no UNet call gets more frames than there are positions; ValueError if one would."""
        limit, handler = self.motion.config.pe_length, model_options.get("context_handler")
        if handler is None and frames > limit:
            logging.info(
                f"AnimateDiff: {frames} frames are more than the {limit} that {self.motion.name} was made for, so "
                "Sliding Context is used with its defaults."
            )
            length = min(limit, self.motion.family.trained_frames)
            model_options["context_handler"] = SlidingContext(ContextOptions.of_length(length))
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
        """Wrap one UNet call; x is (b f) c h w."""
        options = transformer_options or {}
        run: Run | None = options.get(self.key)
        if run is not None:
            run.reached.set()
        if run is None or executor.class_obj in run.plain_models or not run.is_active(options):
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
        call = run.call_frames(x, options)
        windows = run.attention_windows(call, x.device)
        self.check_length(windows.length if windows else call.length)
        moment, areas = run.moment(options), run.areas(x, call, options)
        if run.strength.rests(moment):
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kwargs)
        options = {"ad_params": call.ad_params(), **options}
        unet = executor.class_obj.diffusion_model
        device = options.get("multigpu_thread_device", x.device)
        model: MotionModel = patcher_on(device, run.guider.model_patcher, self.key).model
        size, merge = options.get(STEP_SIZE, run.latent_size), None
        with ExitStack() as stack:
            if self.motion.family.unet_norms_over_frames and not options.get(NORMS_OVER_FRAMES):
                options[NORMS_OVER_FRAMES] = True  # once, however many such modules this MODEL has
                stack.enter_context(group_norms_over_frames(run.norms_of(unet), call.length))
            if run.pictures is not None:
                view = run.pictures.view(call, moment, areas=areas, size=size)
                stack.enter_context(run.pictures.hooks(model, unet, run.slots_of(unet), view))
            if run.camera is not None:
                network: CameraCtrl = patcher_on(device, run.guider.model_patcher, self.camera_key).model
                merge = run.camera.view(network, call, windows, areas=areas, size=size, moment=moment).merges()
            amounts = {"strength": run.strength.in_call(call, moment, areas), "windows": windows, "merge": merge}
            stack.enter_context(motion_hooks(run.slots_of(unet), model, call.length, **amounts))
            return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)


def leave_out_compilation(wrappers: dict[str, dict[str, Any]]) -> None:
    """Take ComfyUI's torch.compile out of a run's own wrappers.

    A graph that was compiled in a resting step would be used without the hooks in the next, and all GPUs would use one
    UNet.
    """
    if wrappers.get(Wrapper.APPLY_MODEL, {}).pop(COMPILE_KEY, None):
        logging.info("AnimateDiff: torch.compile is not used for animated clips.")


def refuse_nan(latent: torch.Tensor) -> None:
    """Raise ValueError naming the first frame of a latent, (f, c, h, w), that is not finite."""
    if torch.isfinite(latent.sum()):
        return
    finite = torch.isfinite(latent).flatten(1).all(dim=1)
    if not finite.all():
        raise ValueError(
            f"Sampling gave NaN or infinite values from frame {int((~finite).nonzero()[0])} on: start ComfyUI with "
            "--force-upcast-attention or --fp32-unet, or lower the motion module's strength."
        )
