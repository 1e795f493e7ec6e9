"""Touches comfy. Renders clips with the file of a training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.sample
import comfy.sd
import comfy.utils
import torch
from PIL import Image
from torch import Tensor

from ..motion_models.files import whole_file
from ..motion_models.loader import load_motion_model
from ..motion_models.lora import apply_motion_lora
from ..sampling.animate import animate

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .config import Config

FRAMES_PER_SECOND = 8


def with_learned(config: Config, model: Any, path: Path) -> Any:
    """Return the MODEL with the trained file applied, as its nodes would apply it."""
    if config.train == "domain adapter":
        lora = comfy.utils.load_torch_file(str(path))
        model, _ = comfy.sd.load_lora_for_models(model, None, lora, strength_model=1.0, strength_clip=0.0)
        if config.motion_module is None:
            return model
        motion = load_motion_model(str(config.motion_module))
    elif config.train == "motion LoRA":
        motion = apply_motion_lora(load_motion_model(str(config.motion_module)), str(path), 1.0)
    else:
        motion = load_motion_model(str(path))
    return animate(model, motion)


def render(config: Config, checkpoint: Checkpoint, path: Path) -> list[tuple[Path, Tensor]]:
    """Write an animated WebP beside `path` for each prompt in [samples]; return the files and their frames.

    Frames are (f, h, w, 3) in [0, 1].
    """
    clips = []
    with torch.inference_mode():
        model = with_learned(config, checkpoint.model, path) if config.samples.prompts else None
        for number, prompt in enumerate(config.samples.prompts):
            latents = sample(model, checkpoint.clip, prompt, config=config)
            frames = checkpoint.vae.decode(latents).clamp(0, 1).cpu()
            file = path.with_name(f"{path.stem}_{number}.webp")
            write_webp(frames, file)
            clips.append((file, frames))
    return clips


def sample(model: Any, clip: Any, prompt: str, config: Config) -> Tensor:
    """Return the latents of a clip (f, c, h, w), as a KSampler with the settings of [samples] gives them."""
    options, frames = config.samples, config.data.frames
    positive, negative = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (prompt, options.negative))
    latent = torch.zeros(frames, 4, options.size[1] // 8, options.size[0] // 8)
    noise = comfy.sample.prepare_noise(latent, options.seed)
    return comfy.sample.sample(
        model,
        noise,
        steps=options.steps,
        cfg=options.cfg,
        sampler_name=options.sampler,
        scheduler=options.scheduler,
        positive=positive,
        negative=negative,
        latent_image=latent,
        disable_pbar=True,
        seed=options.seed,
    )


def write_webp(frames: Tensor, file: Path) -> None:
    """Write frames (f, h, w, 3) in [0, 1] as an animated WebP."""
    pictures = [Image.fromarray(frame.numpy()) for frame in (frames * 255).round().to(torch.uint8)]
    with whole_file(file) as unfinished:
        pictures[0].save(
            unfinished, "WEBP", save_all=True, append_images=pictures[1:], duration=1000 // FRAMES_PER_SECOND, loop=0
        )
