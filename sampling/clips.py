"""Touches comfy. How a run of the sampler treats its batch of latents: as the frames of one clip."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import comfy.patcher_extension
import torch

from . import noise as noises
from .calls import ATTENTION_WINDOWS
from .context_windows import MOTION, ContextOptions, SlidingContext
from .other_nodes import animation, check_calls, check_second, lend_sampling, return_sampling, run_once
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
    if chained and options.free_noise != handler.options[0].free_noise:
        idle.append("free_noise is taken from the node whose windows come first")
    for sentence in idle:
        logging.info(f"Sliding Context: {sentence}.")
    model_options["context_handler"] = handler.with_options(options) if chained else SlidingContext(options)
    return model


def prepare_clips(model: ModelPatcher, frame_rate: float | None = None) -> ModelPatcher:
    """Let the runs of `model`, a clone, go through `sample_clip`, once and inside all other nodes' wrappers.

    `frame_rate`, in frames per second, is that of the live preview; None leaves it as it was.
    """
    model_options: dict[str, Any] = model.model_options
    if frame_rate is not None:
        if model_options.setdefault(RATE, frame_rate) != frame_rate:
            logging.info(
                f"AnimateDiff: frame_rate {frame_rate:g} replaces the {model_options[RATE]:g} of the Apply AnimateDiff "
                "before it."
            )
        model_options[RATE] = frame_rate
    for kind, wrapper in WRAPPERS.items():
        model.remove_wrappers_with_key(kind, KEY)
        model.add_wrapper_with_key(kind, KEY, wrapper)
    of_options = model_options["transformer_options"].setdefault("wrappers", {})
    of_options.setdefault(Wrapper.PREPARE_SAMPLING, {})[KEY] = [check_second]
    model.remove_callbacks_with_key(Callback.ON_REGISTER_ALL_HOOK_PATCHES, KEY)
    model.add_callback_with_key(Callback.ON_REGISTER_ALL_HOOK_PATCHES, KEY, lend_sampling)
    return model


def sample_clip(executor, noise: Tensor, latent_image, sampler, sigmas, denoise_mask, callback, pbar, seed, **kwargs):
    """Wrap a whole run, with noise (f, c, h, w): check what belongs to frames, prepare windows, arrange the noise."""
    guider, frames = executor.class_obj, len(noise)
    options = guider.model_options
    if KEY in options:  # a guider of two models runs the wrappers of both
        return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, pbar, seed, **kwargs)
    options[KEY] = True
    run_once(options["transformer_options"]["wrappers"])
    handler, of_windows = options.get("context_handler"), ()
    if noise.ndim != 4 and isinstance(handler, SlidingContext):
        logging.warning("Sliding Context does not work on video models: use ComfyUI's Context Windows instead.")
    elif frames > 1:
        check_frames((cond for kind in guider.conds.values() for cond in kind), frames)
        rate = options.get(RATE, FRAME_RATE)
        callback = show_progress(callback, guider.model_patcher, steps=len(sigmas) - 1, frame_rate=rate)
        if handler is not None and frames > handler.context_length and not is_inside(handler):
            check_calls(guider.model_patcher, options)
        if isinstance(handler, SlidingContext):
            options["context_handler"] = handler.for_run(callback)
            of_windows = handler.noise(frames)
            comfy.patcher_extension.add_wrapper_with_key(
                Wrapper.PREPARE_SAMPLING, KEY, budget_memory, transformer_options=options, is_model_options=True
            )
        if handler is not None and is_inside(handler) and not animation(guider.model_patcher)[0]:
            logging.info(f'Sliding Context: within "{MOTION}" does nothing without Apply AnimateDiff.')
        noise = arrange_noise(options, noise, seed or 0, of_windows)
    try:
        return executor(noise, latent_image, sampler, sigmas, denoise_mask, callback, pbar, seed, **kwargs)
    finally:
        return_sampling(guider.model_patcher)


def check_base_of_inputs(guider: Any, noise: Tensor) -> None:
    """Raise ValueError if a run's latents (f, c, h, w) or prompts are those of another base than the model's."""
    model = guider.model_patcher
    name, config = type(model.model).__name__, model.model.model_config.unet_config
    channels = model.get_model_object("latent_format").latent_channels
    if noise.shape[1] != channels:
        raise ValueError(
            f"The latents have {noise.shape[1]} channels, but this {name} model takes {channels}: encode the frames "
            "with the VAE of this checkpoint."
        )
    prompts = (cond.get("cross_attn") for kind in guider.conds.values() for cond in kind)
    for width in (tokens.shape[-1] for tokens in prompts if tokens is not None):
        if width != config.get("context_dim", width):
            raise ValueError(
                f"A prompt has {width} features a token, but this {name} model takes {config['context_dim']}: encode "
                "it with the text encoder of this checkpoint."
            )


def arrange_noise(
    options: dict[str, Any], noise: Tensor, seed: int, of_windows: tuple[noises.FreeNoise, ...]
) -> Tensor:
    """Return a run's noise as Clip Noise and its windows arrange it, and put the arrangements into its options."""
    of_nodes = options.get(noises.KEY, ())
    options[noises.KEY] = (*of_nodes, *of_windows)
    arranged = noises.arrange(noise, seed, options[noises.KEY])
    if of_nodes and torch.equal(arranged, noise):
        logging.info(f"Clip Noise: it does nothing, since no noise is added or none repeats in {len(noise)} frames.")
    return arranged


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
    handler = model_options.get("context_handler")
    if isinstance(handler, SlidingContext):
        options[ATTENTION_WINDOWS] = handler.attention_windows
    return executor(x, timestep, {**model_options, "transformer_options": options}, seed)


WRAPPERS = {
    Wrapper.OUTER_SAMPLE: sample_clip,
    Wrapper.SAMPLER_SAMPLE: follow_steps,
    Wrapper.PREDICT_NOISE: tell_size,
}
