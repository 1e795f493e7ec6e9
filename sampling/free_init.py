"""Touches comfy. FreeInit: samples a clip several times, each time from noise that holds more of the last result.

Noise reinitialisation and coarse-to-fine sampling as in "FreeInit: Bridging Initialization Gap in Video Diffusion
Models" (arXiv 2312.07537), with its official filters. Noise and latents are (f, c, h, w), in the model's scale.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import comfy.model_sampling
import comfy.patcher_extension
import comfy.samplers
import comfy.utils
import torch

from . import noise as noises
from .clips import prepare_clips

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from torch import Tensor

KEY = "animatediff_native.free_init"
SAMPLER_SAMPLE = comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE
SEEDS_APART = 1_000_000
"""From one iteration to the next. Samplers and per-frame seeds draw with the seeds right after a run's own, and their
noise must not come again as fresh noise."""
AXES = (0, 2, 3)

RESPONSES: dict[str, Callable[[Tensor, float, int], Tensor]] = {
    "butterworth": lambda d2, stop, order: 1 / (1 + (d2 / stop**2) ** order),
    "gaussian": lambda d2, stop, order: torch.exp(-d2 / (2 * stop**2)),
    "ideal": lambda d2, stop, order: d2 <= 2 * stop,  # sic: not squared in the official code either
}
FILTERS = (*RESPONSES, "box")


def low_pass(kind: str, size: tuple[int, int, int], spatial: float, temporal: float, order: int = 4) -> Tensor:
    """Return how much of each frequency passes a filter of `FILTERS`: (f, 1, h, w), with 0 Hz halfway.

    `size` is (f, h, w). `spatial` and `temporal` are stop frequencies; 1 is the highest there is, at 0 nothing passes.
    """
    if min(spatial, temporal) < 1e-6:  # whose square may be no number above 0
        return torch.zeros(size).unsqueeze(1)
    if kind == "box":
        return box(size, spatial, temporal).unsqueeze(1)
    t, y, x = (2 * torch.arange(n, dtype=torch.float64) / n - 1 for n in size)
    d2 = ((spatial / temporal * t) ** 2).view(-1, 1, 1) + (y**2).view(-1, 1) + x**2
    return RESPONSES[kind](d2, spatial, order).float().unsqueeze(1)


def box(size: tuple[int, int, int], spatial: float, temporal: float) -> Tensor:
    """Return a filter, (f, h, w), of frequencies from -n to n - 1. As in the official code, width has height's n."""
    n_space, n_time = round(size[1] // 2 * spatial), round(size[0] // 2 * temporal)
    t, y, x = (torch.arange(count) - count // 2 for count in size)
    t, y, x = ((-n <= k) & (k < n) for k, n in ((t, n_time), (y, n_space), (x, n_space)))
    return (t.view(-1, 1, 1) & y.view(-1, 1) & x).float()


def mix_frequencies(low: Tensor, high: Tensor, passes: Tensor) -> Tensor:
    """Return the frequencies of `low` that a filter passes and those of `high` that it stops, in float32."""
    passes = torch.fft.ifftshift(passes, dim=AXES)
    difference = torch.fft.fftn((low - high).float(), dim=AXES)
    return high + torch.fft.ifftn(difference * passes, dim=AXES).real


@dataclass(frozen=True)
class FreeInit:
    """FreeInit's settings. `sample` wraps ComfyUI's `Sampler.sample`, so it works with every sampler."""

    iterations: int = 3
    filter: str = "butterworth"
    spatial_frequency: float = 0.25
    temporal_frequency: float = 0.25
    order: int = 4
    """Order of the Butterworth filter."""
    coarse_to_fine: bool = False

    def sample(self, executor, guider, sigmas: Tensor, extra_args, callback, noise: Tensor, latent: Tensor, *args):
        """Sample the same latent in every iteration, from other noise, while the model stays loaded."""
        model = guider.inner_model
        if self.iterations == 1 or not can_iterate(model, sigmas, noise):
            return executor(guider, sigmas, extra_args, callback, noise, latent, *args)
        schedules, initial, result, clip = self.schedules(sigmas), noise, latent, latent
        scale = noise_scale(model, sigmas[0], executor.class_obj.max_denoise(guider, sigmas))
        progress = IterationProgress(callback, sum(len(schedule) - 1 for schedule in schedules))
        passes = self.passes(noise)
        for iteration, schedule in enumerate(schedules):
            options = options_of(extra_args, schedule, iteration)
            if iteration > 0:
                reset_keyframes(guider)
                renoised = (clip - latent + sigmas[0] * initial) / scale
                noise = self.reinitialise(renoised, options, passes)
            progress.begin(len(schedule) - 1)
            result = executor(guider, schedule, options, progress, noise, latent, *args)
            clip = progress.clip(result, schedule[-1])
            if clip.shape != latent.shape:  # SamplerLCMUpscale's has grown
                clip = comfy.utils.common_upscale(clip, latent.shape[-1], latent.shape[-2], "area", "disabled")
        return result

    def passes(self, noise: Tensor) -> Tensor:
        """Return what the filter passes of noise (f, c, h, w), as `low_pass` does; log if that is nothing."""
        frames, _, height, width = noise.shape
        passes = low_pass(
            self.filter,
            size=(frames, height, width),
            spatial=self.spatial_frequency,
            temporal=self.temporal_frequency,
            order=self.order,
        )
        if not passes.any():
            logging.info(
                f"FreeInit: its {self.filter} filter with spatial_frequency {self.spatial_frequency:g} and "
                f"temporal_frequency {self.temporal_frequency:g} keeps nothing of {frames} frames of {width} × "
                f"{height} latent pixels, so each iteration starts from fresh noise."
            )
        return passes

    def reinitialise(self, renoised: Tensor, options: dict[str, Any], passes: Tensor) -> Tensor:
        """Return the next iteration's noise: low frequencies of the `renoised` clip, high ones of fresh noise.

        A sampler starts from latent + scale * noise, so `renoised`, (clip - latent + sigma * initial) / scale, would
        start it from clip + sigma * initial, the last clip under the first iteration's noise. From an empty latent
        scale is sqrt(sigma^2 + 1), and this is the paper's z_T = sqrt(a) z_0 + sqrt(1 - a) noise, a = 1/(sigma^2 + 1).
        In video to video scale is sigma: then high frequencies start from those of the latent under fresh noise, as
        they do without FreeInit. Calculated on the CPU, for the same result on every device.
        """
        fresh = noises.draw(renoised.shape, options["seed"])
        fresh = noises.arrange(fresh, options["seed"], options["model_options"].get(noises.KEY, ()))
        return mix_frequencies(renoised.cpu(), fresh, passes).to(renoised)

    def schedules(self, sigmas: Tensor) -> list[Tensor]:
        """Return the noise levels of each iteration. From coarse to fine, iteration k of n makes k/n of the steps."""
        steps, n = len(sigmas) - 1, self.iterations
        if not self.coarse_to_fine:
            return [sigmas] * n
        counts = [max(1, steps * k // n) for k in range(1, n + 1)]
        return [sigmas[[round(i * steps / count) for i in range(count + 1)]] for count in counts]


def can_iterate(model: Any, sigmas: Tensor, noise: Tensor) -> bool:
    """Return whether a run has frames, noise and steps to iterate over. ValueError for models it is not made for."""
    if isinstance(model.model_sampling, comfy.model_sampling.CONST):
        raise ValueError(
            f"FreeInit is for models that predict noise, such as SD1.5 and SDXL, and {type(model).__name__} is a flow "
            "model: remove FreeInit."
        )
    if noise.ndim != 4:
        raise ValueError(
            f"FreeInit is for image models, whose latents have 4 dimensions, and these have {noise.ndim}: remove "
            "FreeInit."
        )
    reasons = {
        "a single frame has no motion": len(noise) == 1,
        "no noise is added": not noise.any(),
        "the noise levels do not fall": len(sigmas) > 1 and bool(sigmas[0] <= sigmas[-1]),
    }
    why_not = next((reason for reason, holds in reasons.items() if holds), None)
    if why_not:
        logging.info(f"FreeInit: {why_not}, so the latent is sampled once.")
    return why_not is None and len(sigmas) > 1


def noise_scale(model: Any, sigma: Tensor, max_denoise: bool) -> Tensor:
    """Return the factor by which a sampler that starts at `sigma` multiplies its noise."""
    one = torch.ones_like(sigma)
    return model.model_sampling.noise_scaling(sigma, one, torch.zeros_like(one), max_denoise=max_denoise)


def options_of(extra_args: dict[str, Any], sigmas: Tensor, iteration: int) -> dict[str, Any]:
    """Return a sampler's `extra_args` for one iteration, with its noise levels and, after the first, its own seed."""
    model_options = extra_args["model_options"]
    transformer_options = {**model_options.get("transformer_options", {}), "sample_sigmas": sigmas}
    seed = ((extra_args.get("seed") or 0) + iteration * SEEDS_APART) % 2**64
    return {**extra_args, "seed": seed, "model_options": {**model_options, "transformer_options": transformer_options}}


def reset_keyframes(guider: Any) -> None:
    """Move the keyframes of hooks and ControlNets, which only go forward during a run, back to the first."""
    conds = [cond for kind in guider.conds.values() for cond in kind]
    comfy.samplers.pre_run_control(guider.inner_model, conds)
    hooks = [cond["hooks"] for cond in conds if "hooks" in cond]
    for group in hooks:
        group.reset()
    clones = guider.model_options.get("multigpu_clones", {}).values()
    for patcher in (guider.model_patcher, *clones) if hooks else ():
        patcher.clean_hooks()


class IterationProgress:
    """A sampler's callback that counts the steps of all iterations as one run and keeps the last prediction."""

    def __init__(self, callback: Callable[..., Any] | None, total: int):
        self.callback, self.total = callback, total
        self.done = self.steps = 0
        self.denoised: Tensor | None = None

    def begin(self, steps: int) -> None:
        self.done, self.steps = self.done + self.steps, steps

    def __call__(self, step: int, denoised: Tensor, x: Tensor, total_steps: int) -> None:
        self.denoised = denoised
        if self.callback is not None:
            self.callback(self.done + min(step, self.steps - 1), denoised, x, self.total)

    def clip(self, result: Tensor, sigma: Tensor) -> Tensor:
        """Return the clip that a sampler made. A `result` that ends at a `sigma` above 0, as the first of two KSampler
        (Advanced) does, is noisy; then the clip is the model's last prediction."""
        return result if sigma == 0 or self.denoised is None else self.denoised


def apply_free_init(model: ModelPatcher, settings: FreeInit) -> ModelPatcher:
    """Return a clone of `model` that samples with these settings, which replace those of an earlier FreeInit."""
    model = model.clone()
    if model.get_wrappers(SAMPLER_SAMPLE, KEY):
        logging.info("FreeInit: it replaces the FreeInit before it.")
    if settings.filter != "butterworth" and settings.order != FreeInit.order:
        logging.info(f"FreeInit: order {settings.order} does nothing with the {settings.filter} filter.")
    model.remove_wrappers_with_key(SAMPLER_SAMPLE, KEY)
    model.add_wrapper_with_key(SAMPLER_SAMPLE, KEY, settings.sample)
    return prepare_clips(model)  # inside of it, windows follow the steps of each iteration
