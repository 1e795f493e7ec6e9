"""Touches comfy. Clips rendered with what a training has learned so far."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.sample
import comfy.sd
import comfy.utils
import torch
from PIL import Image
from torch import Tensor

from ..motion_models.loader import load_motion_model
from ..motion_models.lora import apply_motion_lora
from ..sampling.animate import animate

if TYPE_CHECKING:
    from .config import Config, SampleOptions
    from .run import ImageModels

FRAMES_PER_SECOND = 8


def with_learned(config: Config, model: Any, path: Path) -> Any:
    """The MODEL with the file that was trained, put to use as its nodes would."""
    if config.train == "domain adapter":
        lora = comfy.utils.load_torch_file(str(path))
        model, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)
        if config.motion_module is None:
            return model
        motion = load_motion_model(str(config.motion_module))
    elif config.train == "motion LoRA":
        motion = apply_motion_lora(load_motion_model(str(config.motion_module)), str(path), 1.0)
    else:
        motion = load_motion_model(str(path))
    return animate(model, motion)


def render(config: Config, image: ImageModels, path: Path) -> list[tuple[Path, Tensor]]:
    """An animated WebP beside `path` for each of the prompts in [samples], and its frames (f, h, w, 3) in [0, 1]."""
    found = []
    with torch.inference_mode():
        model = with_learned(config, image.model, path) if config.samples.prompts else None
        for number, prompt in enumerate(config.samples.prompts):
            frames = sample(image, model, prompt, config.samples, config.data.frames)
            file = path.with_name(f"{path.stem}_{number}.webp")
            write_webp(frames, file)
            found.append((file, frames))
    return found


def sample(image: ImageModels, model: Any, prompt: str, options: SampleOptions, frames: int) -> Tensor:
    """A clip (f, h, w, 3) in [0, 1], as a KSampler with these settings gives it."""
    positive, negative = (
        image.clip.encode_from_tokens_scheduled(image.clip.tokenize(text)) for text in (prompt, options.negative)
    )
    latent = torch.zeros(frames, 4, options.size[1] // 8, options.size[0] // 8)
    noise = comfy.sample.prepare_noise(latent, options.seed)
    settings = (options.steps, options.cfg, options.sampler, options.scheduler)
    sampled = comfy.sample.sample(
        model, noise, *settings, positive, negative, latent, disable_pbar=True, seed=options.seed
    )
    return image.vae.decode(sampled).clamp(0, 1).cpu()


def write_webp(frames: Tensor, file: Path) -> None:
    pictures = [Image.fromarray(frame.numpy()) for frame in (frames * 255).round().to(torch.uint8)]
    unfinished = file.with_suffix(".part")
    pictures[0].save(
        unfinished, "WEBP", save_all=True, append_images=pictures[1:], duration=1000 // FRAMES_PER_SECOND, loop=0
    )
    unfinished.replace(file)
