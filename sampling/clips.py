"""Touches comfy. How a run of the sampler treats its batch of latents: as the frames of one clip."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import comfy.patcher_extension

from . import noise as noises
from .context_windows import MOTION, ContextOptions, SlidingContext
from .other_nodes import check_calls, lend_sampling, return_sampling
from .per_frame import check_frames
from .progress import FRAME_RATE, show_progress

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from torch import Tensor

KEY = "animatediff_native.clips"
RATE = "animatediff_native.frame_rate"
Callback, Wrapper = comfy.patcher_extension.CallbacksMP, comfy.patcher_extension.WrappersMP
STEP_SIZE = "animatediff_native.step_size"
"""Under which a step's transformer_options hold height and width of the latent, which some samplers change."""


def apply_sliding_context(model: ModelPatcher, options: ContextOptions) -> ModelPatcher:
    """Return a clone of `model` that samples long clips in windows. Of several, each takes over at its start."""
    model = prepare_clips(model.clone())
    model_options: dict[str, Any] = model.model_options
    handler = model_options.get("context_handler")
    chained = isinstance(handler, SlidingContext)
    idle = options.idle_settings()
    if handler is not None and not chained:
        idle.append("it replaces the Context Windows before it")
    elif not chained and options.start_percent > 0.0:
        idle.append(f"start_percent {options.start_percent:g} does nothing without a Sliding Context before it")
    elif chained and options.start_percent in (earlier.start_percent for earlier in handler.options):
        idle.append(f"it replaces the one before it, which also starts at {options.start_percent:g}")
    for sentence in idle:
        logging.info(f"Sliding Context: {sentence}.")
    model_options["context_handler"] = handler.with_options(options) if chained else SlidingContext(options)
    return model


def prepare_clips(model: ModelPatcher, frame_rate: float | None = None) -> ModelPatcher:
    """Let the runs of `model`, a clone, go through `sample_clip`, once and inside all other nodes' wrappers.

    `frame_rate`, in frames per second, is that of the live preview; None leaves it as it was.
    """
    if frame_rate is not None:
        model_options: dict[str, Any] = model.model_options
        model_options[RATE] = frame_rate
    for kind, wrapper in WRAPPERS.items():
        model.remove_wrappers_with_key(kind, KEY)
        model.add_wrapper_with_key(kind, KEY, wrapper)
    model.remove_callbacks_with_key(Callback.ON_REGISTER_ALL_HOOK_PATCHES, KEY)
    model.add_callback_with_key(Callback.ON_REGISTER_ALL_HOOK_PATCHES, KEY, lend_sampling)
    return model


def sample_clip(executor, noise: Tensor, latent_image, sampler, sigmas, denoise_mask, callback, pbar, seed, **kwargs):
    """Wrap a whole run, with noise (f, c, h, w): check what belongs to frames, prepare windows, arrange the noise."""
    guider, frames = executor.class_obj, len(noise)
    options = guider.model_options
    handler, arrangements = options.get("context_handler"), options.get(noises.KEY, ())
    if noise.ndim != 4 and isinstance(handler, SlidingContext):
        logging.warning("Sliding Context does not work on video models: use ComfyUI's Context Windows instead.")
    elif frames > 1:
        check_frames((cond for kind in guider.conds.values() for cond in kind), frames)
        rate = options.get(RATE, FRAME_RATE)
        callback = show_progress(callback, guider.model_patcher, steps=len(sigmas) - 1, frame_rate=rate)
        if handler is not None and frames > handler.context_length and not is_inside(handler):
            check_calls(options)
        if isinstance(handler, SlidingContext):
            options["context_handler"] = handler.for_run(callback)
            arrangements += handler.noise(frames)
            comfy.patcher_extension.add_wrapper_with_key(
                Wrapper.PREPARE_SAMPLING, KEY, budget_memory, transformer_options=options, is_model_options=True
            )
        options[noises.KEY] = arrangements
        noise = noises.arrange(noise, seed or 0, arrangements)
    try:
        return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, pbar, seed, **kwargs)
    finally:
        return_sampling(guider.model_patcher)


def is_inside(handler: Any) -> bool:
    """Return whether all windows are inside the motion modules, so that the UNet sees the whole clip."""
    return isinstance(handler, SlidingContext) and all(options.within == MOTION for options in handler.options)


def budget_memory(executor, model, noise_shape, conds, *args, **kwargs):
    """Wrap ComfyUI's preparations: budget memory for the frames of one call, whatever the length of the clip."""
    frames = kwargs["model_options"]["context_handler"].frames_in_flight(noise_shape[0])
    return executor(model, [frames, *noise_shape[1:]], conds, *args, **kwargs)


def follow_steps(executor, guider, sigmas: Tensor, extra_args, callback, noise: Tensor, *args, **kwargs):
    """Wrap the sampler: count its steps by its own reports, which asks nothing of the GPU."""
    handler = extra_args["model_options"].get("context_handler")
    if not isinstance(handler, SlidingContext) or noise.ndim != 4:
        return executor(guider, sigmas, extra_args, callback, noise, *args, **kwargs)
    handler.begin(guider, noise, sigmas.tolist())

    def count_steps(step: int, *state):
        handler.next_step(step, len(noise))
        return callback(step, *state) if callback is not None else None

    return executor(guider, sigmas, extra_args, count_steps, noise, *args, **kwargs)


def tell_size(executor, x: Tensor, timestep, model_options: dict[str, Any] | None = None, seed=None):
    """Wrap a prediction for a whole step, x (f, c, h, w): tell its UNet calls, which may see tiles, its size."""
    model_options = model_options or {}
    options = {**model_options.get("transformer_options", {}), STEP_SIZE: (x.shape[-2], x.shape[-1])}
    return executor(x, timestep, {**model_options, "transformer_options": options}, seed)


WRAPPERS = {
    Wrapper.OUTER_SAMPLE: sample_clip,
    Wrapper.SAMPLER_SAMPLE: follow_steps,
    Wrapper.PREDICT_NOISE: tell_size,
}
