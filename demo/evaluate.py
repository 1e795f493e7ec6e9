"""Measures how good the miniature's animations are: `python -m animatediff_native.demo.evaluate`.

The base model and the personalised one are sampled through ComfyUI with the trained motion module, without any, and
with an untrained one. All use the same seeds, and demo/metrics.py measures every clip. Prints the table of
docs/evidence.md.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tqdm
from torch import Tensor

from . import metrics, shapes
from .companion import companion
from .train import MODELS, save, use_cpu

FRAMES = 16
# Euler without fresh noise leaves a model of this size with residual noise in some frames.
STEPS, CFG, SAMPLER = 20, 2.5, "euler_ancestral"
NAMES = ("base", "personalised")
PROMPTS = [
    (list(shapes.COLOURS)[i % len(shapes.COLOURS)], shapes.SHAPES[i % len(shapes.SHAPES)])
    for i in range(len(shapes.COLOURS) * len(shapes.SHAPES))
]
COLUMNS = ("shape %", "colour %", "look %", "step px", "jerk px", "jerk / step")


@dataclass
class Scores:
    """Sums over the clips of one row of the table."""

    frames: int = 0
    shape: int = 0
    colour: int = 0
    look: float = 0.0
    displacement: list[float] = field(default_factory=list)
    jerk: list[float] = field(default_factory=list)

    def add(self, clip: Tensor, colour: str, shape: str, stills: Tensor) -> None:
        """Add a clip (f, 3, h, w). A frame without a visible shape counts as a wrong shape, colour and look."""
        frames = [metrics.read_frame(picture) for picture in clip]
        self.frames += len(frames)
        self.shape += sum(frame is not None and frame.shape == shape for frame in frames)
        self.colour += sum(frame is not None and frame.colour == colour for frame in frames)
        self.look += sum(metrics.look(picture, stills) for picture in clip)
        path = [frame.centroid for frame in frames if frame is not None]
        if len(path) > 3:
            self.displacement.append(metrics.displacement(path))
            self.jerk.append(metrics.jerk(path))

    def row(self) -> dict[str, float]:
        shares = [100 * value / self.frames for value in (self.shape, self.colour, self.look)]
        step, jerk = (sum(values) / max(1, len(values)) for values in (self.displacement, self.jerk))
        return dict(zip(COLUMNS, (*shares, step, jerk, jerk / step if step else 0.0), strict=True))


class Miniature:
    """The demo's models, loaded and sampled by the functions behind ComfyUI's stock nodes."""

    def __init__(self, models: Path):
        import comfy.sd
        import comfy.utils

        companion()
        file = models / "checkpoints" / "miniature.safetensors"
        loaded: Any = comfy.sd.load_checkpoint_guess_config(str(file))
        self.base, self.clip, self.vae = loaded[:3]
        lora = comfy.utils.load_torch_file(str(models / "loras" / "miniature_neon.safetensors"))
        self.personalised, _ = comfy.sd.load_lora_for_models(self.base, None, lora, 1.0, 0.0)

    def sample(
        self, model, prompt: str, seed: int, frames: int = FRAMES, control: Any = None, latent: Any = None
    ) -> Tensor:
        """Return a clip (frames, 3, h, w) in [0, 1], which follows a ControlNet with its hint if there is one.

        It begins from ComfyUI's `latent` with its noise mask instead of an empty one, if that is given.
        """
        import comfy.sample

        positive, negative = (self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text)) for text in (prompt, ""))
        if control is not None:
            for conditioning in (positive, negative):
                conditioning[0][1]["control"] = control
        latent = latent or {"samples": torch.zeros(frames, 4, shapes.SIZE // 8, shapes.SIZE // 8)}
        start, mask = latent["samples"], latent.get("noise_mask")
        noise = comfy.sample.prepare_noise(start, seed)
        settings = {"noise_mask": mask, "disable_pbar": True, "seed": seed}
        sampled = comfy.sample.sample(
            model, noise, STEPS, CFG, SAMPLER, "normal", positive, negative, start, **settings
        )
        return self.vae.decode(sampled).movedim(-1, 1)


def with_module(model, file: Path, lora: Path | None = None):
    from ..motion_models.loader import load_motion_model
    from ..motion_models.lora import apply_motion_lora
    from ..sampling.animate import animate

    motion = load_motion_model(str(file))
    if lora is not None:
        motion = apply_motion_lora(motion, str(lora), 1.0)
    return animate(model, motion)


def untrained_module(folder: Path) -> Path:
    """Write a motion module with PyTorch's initial weights, output layers included, and return its file."""
    from . import motion

    torch.manual_seed(0)
    file = folder / "untrained.safetensors"
    save(motion.build().state_dict(), file)
    return file


def evaluate(models: Path, seeds: int, names: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the table's columns by model and variant. Every prompt has two seeds or more."""
    miniature, table = Miniature(models), {}
    prompts = PROMPTS[: seeds // 2]
    trained = models / "animatediff_models" / "miniature_motion.safetensors"
    with tempfile.TemporaryDirectory() as folder:
        untrained = untrained_module(Path(folder))
        for name in names:
            model = getattr(miniature, name)
            variants = {
                "without": model,  # first: its pictures are the stills that looks are compared with
                "untrained": with_module(model, untrained),
                "trained": with_module(model, trained),
            }
            scores = {variant: Scores() for variant in variants}
            stills: list[Tensor] = []
            for variant, patched in variants.items():
                progress = tqdm.tqdm(range(seeds), desc=f"{name}, {variant}")
                clips = [miniature.sample(patched, "a {} {}".format(*prompts[i % len(prompts)]), i) for i in progress]
                stills = stills or [centred_stills(clip) for clip in clips]
                for seed, clip in enumerate(clips):
                    other = seed + len(prompts) if seed + len(prompts) < seeds else seed - len(prompts)
                    scores[variant].add(clip, *prompts[seed % len(prompts)], stills[other])
            table[name] = {variant: score.row() for variant, score in scores.items()}
    return table


def centred_stills(clip: Tensor) -> Tensor:
    """Return the cut-outs (n, 3, CROP, CROP) of the clip's visible shapes."""
    cuts = [metrics.centred(picture) for picture in clip]
    return torch.stack([cut for cut in cuts if cut is not None])


def markdown(table: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = ["| model | module | " + " | ".join(COLUMNS) + " |", "|---|---|" + "--:|" * len(COLUMNS)]
    for name, variants in table.items():
        for variant, row in variants.items():
            lines.append(f"| {name} | {variant} | " + " | ".join(f"{row[column]:.1f}" for column in COLUMNS) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--seeds", type=int, default=64, help="clips of each row, at least 2; default 64")
    parser.add_argument("--model", choices=NAMES, help="only the rows of this one")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    use_cpu()
    with torch.inference_mode():
        table = evaluate(options.models, options.seeds, [options.model] if options.model else list(NAMES))
    print(markdown(table))
    if options.json:
        options.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
