"""Trains the miniature models from scratch: `python -m animatediff_native.demo.train`.

Stages: text-to-image model, motion module, camera movement (motion LoRA), personalised look (LoRA), ControlNet,
autoencoder. The colours of the live preview are fitted at the end.
Each stage is seeded, saves its state every minute and resumes where it was stopped. All of it takes under three hours
on two CPU cores.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import Module

from animatediff_native import start_comfyui

DEMO = Path(__file__).parent
MODELS = DEMO / "models"
STEPS = {"text-to-image": 2600, "motion": 4000, "pan": 600, "personalise": 800, "control": 1000, "autoencoder": 1800}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run-dir", type=Path, default=Path("output") / "training", help="state and loss curves")
    parser.add_argument("--models", type=Path, default=MODELS, help="where the finished files go")
    parser.add_argument("--colours", type=Path, help="where the preview's colours go; default in the companion pack")
    parser.add_argument("--quick", action="store_true", help="one step of each stage, to see that everything runs")
    options = parser.parse_args()
    steps = dict.fromkeys(STEPS, 1) if options.quick else STEPS

    use_cpu()
    from . import autoencoder, control, motion, personalise, preview_colours, text_to_image

    unet, text_encoder = text_to_image.train(options.run_dir, steps["text-to-image"])
    module = motion.train(unet, text_encoder, options.run_dir, steps["motion"])
    save(module.state_dict(), options.models / "animatediff_models" / "miniature_motion.safetensors")
    pan = motion.train_lora(unet, text_encoder, module, options.run_dir, steps["pan"])
    save(pan, options.models / "animatediff_motion_lora" / "miniature_pan.safetensors")
    lora = personalise.train(unet, text_encoder, options.run_dir, steps["personalise"])
    save(lora, options.models / "loras" / "miniature_neon.safetensors")
    outline = control.train(unet, text_encoder, options.run_dir, steps["control"])
    save(outline, options.models / "controlnet" / "miniature_outline.safetensors")
    vae = autoencoder.train(options.run_dir, steps["autoencoder"])
    save(checkpoint(unet, text_encoder.model, vae), options.models / "checkpoints" / "miniature.safetensors")
    preview_colours.write(options.colours or preview_colours.FILE)


def use_cpu() -> None:
    """Start ComfyUI's modules with an attention that has gradients; the CPU's usual one has none."""
    start_comfyui(cpu=True, use_pytorch_cross_attention=True)


def checkpoint(unet: Module, text_model: Module, vae: Module) -> dict[str, Tensor]:
    """Return the three parts under the key names of a Stable Diffusion 1.5 checkpoint."""
    parts = {
        "model.diffusion_model.": unet.state_dict(),
        "first_stage_model.": vae.state_dict(),
        "cond_stage_model.transformer.text_model.": {
            key.removeprefix("text_model."): value for key, value in text_model.state_dict().items()
        },
    }
    return {prefix + key: value for prefix, part in parts.items() for key, value in part.items()}


def save(weights: dict[str, Tensor], file: Path) -> None:
    """Write a .safetensors file of the smallest numbers that hold the weights."""
    from safetensors.torch import save_file

    from ..motion_models.files import whole_file

    with whole_file(file) as unfinished:
        save_file({key: smallest(value.detach()).contiguous() for key, value in weights.items()}, unfinished)
    print(f"{file}: {file.stat().st_size / 1e6:.2f} MB")


def smallest(value: Tensor) -> Tensor:
    """Return the value in half precision, or in bytes if a layer's weight stays the same in them.

    The zeros and ones of the autoencoder's encoder do.
    """
    half = value.to(torch.float16)
    byte = half.to(torch.float8_e4m3fn)
    return byte if value.ndim > 1 and torch.equal(byte.to(torch.float16), half) else half


if __name__ == "__main__":
    main()
