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

from ..evaluation.media import Pictures, UnusableClip
from ..motion_models.files import whole_file
from ..motion_models.loader import load_motion_model
from ..motion_models.lora import apply_motion_lora
from ..sampling.animate import MotionSettings, animate
from ..sampling.keyframes import KeyframeImages, Keyframes, parse_positions
from ..sampling.pictures import PictureSettings
from ..sampling.sparse_control import load_sparse_control
from .data.transforms import fit

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .config import Config

FRAMES_PER_SECOND = 8


def with_learned(config: Config, checkpoint: Checkpoint, path: Path) -> Any:
    """Return the MODEL with the trained file applied, as its nodes would apply it."""
    model: Any = checkpoint.model
    settings = MotionSettings()
    if config.train == "domain adapter":
        lora = comfy.utils.load_torch_file(str(path))
        model, _ = comfy.sd.load_lora_for_models(model, None, lora, strength_model=1.0, strength_clip=0.0)
        if config.motion_module is None:
            return model
        motion = load_motion_model(str(config.motion_module))
    elif config.train == "SparseCtrl":
        motion = load_motion_model(str(config.motion_module))
    elif config.train == "motion LoRA":
        motion = apply_motion_lora(load_motion_model(str(config.motion_module)), str(path), 1.0)
    else:
        motion = load_motion_model(str(path))
        if motion.config.picture_input and config.samples.keyframes:
            settings = MotionSettings(pictures=PictureSettings(sample_keyframes(config, checkpoint.vae)))
    return animate(model, motion, settings)


def sample_keyframes(config: Config, vae: Any) -> Keyframes:
    """Return the keyframes of [samples] in the size of the samples. ValueError names a file that is no picture."""
    width, height = config.samples.size
    pictures = []
    for file in config.samples.keyframes:
        try:
            pictures += [fit(frame, (height, width), (0.5, 0.5)) for frame in Pictures((file,)).frames()]
        except UnusableClip as error:
            raise ValueError(f"samples.keyframes: {file.name} cannot be used, because {error}.") from error
    return Keyframes(torch.stack(pictures), parse_positions(config.samples.keyframe_positions), vae)


def guided(config: Config, checkpoint: Checkpoint, path: Path, prompts: list[Any]) -> list[Any]:
    """Return the encoded prompts with a trained SparseCtrl that sees the keyframes of [samples], if there are any."""
    if config.train != "SparseCtrl" or not config.samples.keyframes:
        return prompts
    keyframes = sample_keyframes(config, checkpoint.vae)
    hint = load_sparse_control(str(path)).set_cond_hint(KeyframeImages.of(keyframes, keyframes.images).movedim(-1, 1))
    return [[[context, {**values, "control": hint}] for context, values in prompt] for prompt in prompts]


def render(config: Config, checkpoint: Checkpoint, path: Path) -> list[tuple[Path, Tensor]]:
    """Write an animated WebP beside `path` for each prompt in [samples]; return the files and their frames.

    Frames are (f, h, w, 3) in [0, 1].
    """
    clips = []
    with torch.inference_mode():
        model = with_learned(config, checkpoint, path) if config.samples.prompts else None
        for number, prompt in enumerate(config.samples.prompts):
            latents = sample(model, checkpoint, prompt, path=path, config=config)
            frames = checkpoint.vae.decode(latents).clamp(0, 1).cpu()
            file = path.with_name(f"{path.stem}_{number}.webp")
            write_webp(frames, file)
            clips.append((file, frames))
    return clips


def sample(model: Any, checkpoint: Checkpoint, prompt: str, path: Path, config: Config) -> Tensor:
    """Return the latents of a clip (f, c, h, w), as a KSampler with the settings of [samples] gives them."""
    options, frames, clip = config.samples, config.data.frames, checkpoint.clip
    prompts = [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (prompt, options.negative)]
    positive, negative = guided(config, checkpoint, path=path, prompts=prompts)
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
