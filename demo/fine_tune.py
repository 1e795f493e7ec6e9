"""Measures what a user can teach the miniature: `python -m animatediff_native.demo.fine_tune`.

Draws clips as videos, trains on them with `python -m training`, and measures what was learned:

- direction: a motion LoRA from 20 clips of things that go up, on a personalised model that it never saw.
- style: the motion module fine-tuned on 8 neon clips, against the untouched one.
- schedule: the same training from scratch with AnimateDiff's betas and with Stable Diffusion's (v1 of arXiv 2307.04725,
  table 2), both sampled with AnimateDiff's, which the pack chooses for the module.

Prints the tables and writes them to docs/measurements/fine_tuning.md. Takes about an hour on two CPU cores.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import metrics, shapes
from .clips import UP, write_clips
from .evaluate import PROMPTS, Miniature, with_module
from .train import DEMO, MODELS, use_cpu

REPO = DEMO.parent
MODULE = MODELS / "animatediff_models" / "miniature_motion.safetensors"
RESULTS = REPO / "docs" / "measurements" / "fine_tuning.md"
SIZE = shapes.SIZE
NOISE_LEVELS = (500, 900, 999)
HEAD = """# Teaching the miniature

{date}, {machine}. Trained with `python -m training` on drawn videos. This draws them,
trains, and prints these tables:

    python tools/dev.py run -- python -m animatediff_native.demo.fine_tune

"""


def train(folder: Path, name: str, clips: Path, **changes: Any) -> Path:
    """Run the command that a user runs, and return the trained file."""
    config: dict[str, Any] = {
        "name": name,
        "checkpoint": str(MODELS / "checkpoints" / "miniature.safetensors"),
        "custom_nodes": [str(DEMO / "comfyui-miniature")],
        "output": str(folder / name),
        "recompute": False,
        "data": {"folder": str(clips), "stride": 1, "size": SIZE},
    } | changes
    file = folder / f"{name}.toml"
    file.write_text(toml(config), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "training", "--config", str(file)], cwd=REPO, check=True)
    return folder / name / f"{name}.safetensors"


def toml(config: dict[str, Any]) -> str:
    """Return TOML whose plain values are written as in JSON."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in config.items() if not isinstance(value, dict)]
    for name, table in config.items():
        if isinstance(table, dict):
            lines += [f"\n[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def direction(folder: Path, steps: int, seeds: int) -> list[str]:
    clips = write_clips(folder / "up", 20, UP, seed=5)
    lora = train(
        folder,
        "up_lora",
        clips,
        train="motion LoRA",
        motion_module=str(MODULE),
        fit={"steps": steps, "learning_rate": 1e-2},
        objective={"loss": "velocity", "first_timestep": 600, "batch": 4},
        lora={"rank": 2},
    )
    miniature = Miniature(MODELS)
    before = headings(miniature, with_module(miniature.personalised, MODULE), seeds)
    after = headings(miniature, with_module(miniature.personalised, MODULE, lora), seeds)
    lines = ["## Direction", "", f"{seeds} seeds of the personalised model, which the LoRA never saw.", ""]
    lines += ["| | go up (within 45°) | mean step upwards, px |", "|---|--:|--:|"]
    for name, clips_headings in (("motion module", before), ("with the LoRA", after)):
        upwards = sum(abs(angle - UP) < math.pi / 4 for angle, _ in clips_headings)
        rise = np.mean([rise for _, rise in clips_headings])
        lines.append(f"| {name} | {upwards} of {len(clips_headings)} | {rise:+.2f} |")
    return lines


def headings(miniature: Miniature, model: Any, seeds: int) -> list[tuple[float, float]]:
    """Return for each seed the angle from a clip's first place to its last, and the pixels per frame that it rises."""
    clips_headings = []
    for seed in range(seeds):
        colour, shape = PROMPTS[seed % len(PROMPTS)]
        clip = miniature.sample(model, f"a {colour} {shape}", 100 + seed)
        path = [frame.centroid for frame in map(metrics.read_frame, clip) if frame]
        x, y = np.subtract(path[-1], path[0])
        clips_headings.append((math.atan2(y, x), -y / (len(path) - 1)))
    return clips_headings


def style(folder: Path, steps: int) -> list[str]:
    clips = write_clips(folder / "neon", 8, look="neon", seed=6)
    neon = str(MODELS / "loras" / "miniature_neon.safetensors")
    tuned = train(
        folder,
        "neon_module",
        clips,
        train="motion module",
        motion_module=str(MODULE),
        loras=[neon],
        fit={"steps": steps, "learning_rate": 1e-4},
        objective={"loss": "velocity", "least": 0.05, "batch": 2},
    )
    lines = ["## Style", "", "Error of the predicted noise in neon clips, averaged over noise levels.", ""]
    lines += ["| | the 8 clips | 8 others |", "|---|--:|--:|"]
    model = Miniature(MODELS).personalised
    for name, file in (("motion module", MODULE), ("fine-tuned", tuned)):
        errors = (np.mean(noise_errors(file, model, "neon", seed, range(100, 1000, 100))) for seed in (6, 7))
        lines.append(f"| {name} | " + " | ".join(f"{error:.4f}" for error in errors) + " |")
    return lines


def noise_errors(module: Path, model: Any, look: str, seed: int, timesteps: Sequence[int]) -> list[float]:
    """Return the mean squared error of the noise predicted in 8 drawn clips, for each timestep."""
    import comfy.model_management

    from ..motion_models.loader import load_motion_model
    from ..motion_models.unet import motion_hooks, unet_slots
    from ..training.diffusion import add_noise, alphas_cumprod
    from . import autoencoder

    comfy.model_management.load_models_gpu([model])
    unet, motion = model.model.diffusion_model, load_motion_model(str(module)).patcher.model
    clip, errors = Miniature(MODELS).clip, np.zeros((8, len(timesteps)))
    for number in range(len(errors)):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        scene = shapes.random_clip(1, 16, generator)
        latents = autoencoder.encode(shapes.draw(scene, look), *autoencoder.projection())
        words = clip.encode_from_tokens(clip.tokenize(shapes.captions(scene)[0])).repeat(16, 1, 1)
        for column, timestep in enumerate(timesteps):
            noise = torch.randn(latents.shape, generator=generator)
            noisy = add_noise(latents, noise, alphas_cumprod("motion")[timestep].expand(16))
            with motion_hooks(unet_slots(unet), motion, 16):
                predicted = unet(noisy, torch.full((16,), float(timestep)), words, transformer_options={})
            errors[number, column] = (predicted - noise).square().mean()
    return list(errors.mean(0))


def schedule(folder: Path, steps: int, seeds: int) -> list[str]:
    clips, rows = write_clips(folder / "paper", 200, seed=8), []
    for name, betas in (("AnimateDiff's (linear)", "motion"), ("Stable Diffusion's", "image")):
        module = train(
            folder,
            f"{betas}_betas",
            clips,
            train="motion module",
            beta_schedule=betas,
            fit={"steps": steps, "learning_rate": 1e-3},
            objective={"loss": "velocity", "least": 0.05, "batch": 4},
        )
        miniature = Miniature(MODELS)
        model = with_module(miniature.base, module)
        jerks, steps_px, shown = [], [], 0
        for seed in range(seeds):
            colour, shape = PROMPTS[seed]
            clip = miniature.sample(model, f"a {colour} {shape}", 200 + seed)
            frames = [metrics.read_frame(picture) for picture in clip]
            path = [frame.centroid for frame in frames if frame]
            jerks.append(metrics.jerk(path))
            steps_px.append(metrics.displacement(path))
            shown += sum(frame is not None and frame.shape == shape for frame in frames)
        share = 100 * shown / (16 * seeds)
        errors = " | ".join(f"{error:.3f}" for error in clip_errors(module, miniature.base))
        rows.append(f"| {name} | {errors} | {np.mean(steps_px):.1f} | {np.mean(jerks):.1f} | {share:.1f} |")
    measured = "Error of the clip predicted from noise of AnimateDiff's schedule, in 8 other clips"
    training = f"{steps} steps from scratch on 200 clips."
    lines = ["## Noise schedule", "", f"{training} {measured}, and {seeds} seeds sampled with it."]
    head = [f"error at t={timestep}" for timestep in NOISE_LEVELS]
    head = ["betas in training", *head, "step px", "jerk px", "shape %"]
    return [*lines, "", f"| {' | '.join(head)} |", "|---" + "|--:" * (len(head) - 1) + "|", *rows]


def clip_errors(module: Path, model: Any) -> list[float]:
    """Return the error of the clean clip that the predicted noise leaves, for each of NOISE_LEVELS."""
    from ..training.diffusion import alphas_cumprod

    alphas = alphas_cumprod("motion")[list(NOISE_LEVELS)]
    return [
        float(error * (1 - alpha) / alpha)
        for error, alpha in zip(noise_errors(module, model, "paper", 9, NOISE_LEVELS), alphas, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run-dir", type=Path, default=Path("output") / "fine_tuning", help="clips and trained files")
    parser.add_argument("--out", type=Path, help="default docs/measurements/fine_tuning.md for a whole run")
    parser.add_argument("--part", choices=["direction", "style", "schedule"], help="only this one")
    parser.add_argument("--quick", action="store_true", help="a few steps of each, to see that everything runs")
    options = parser.parse_args()
    use_cpu()
    file = options.out or (None if options.part or options.quick else RESULTS)
    folder = options.run_dir.resolve()
    machine = f"{os.cpu_count()} CPU cores, torch {torch.__version__}"
    text = HEAD.format(date=time.strftime("%d %B %Y"), machine=machine)
    parts = {
        "direction": lambda: direction(folder, *((3, 2) if options.quick else (600, 32))),
        "style": lambda: style(folder, 3 if options.quick else 300),
        "schedule": lambda: schedule(folder, *((3, 2) if options.quick else (250, 16))),
    }
    for part in [parts[options.part]] if options.part else parts.values():
        with torch.inference_mode():
            text += "\n".join(part()) + "\n\n"
        if file is not None:
            file.write_text(text.rstrip() + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
