"""Small real ComfyUI objects: an SD1.5-layout MODEL, motion-module files, one way to sample."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import comfy.model_base
import comfy.model_patcher
import comfy.sample
import comfy.supported_models
import safetensors.torch
import torch
from torch import Tensor

from animatediff_native.motion_models.loader import LoadedMotionModel, load_motion_model
from animatediff_native.motion_models.motion_model import MotionModel, MotionModelConfig
from animatediff_native.sampling import animate as animation
from animatediff_native.sampling.animate import MotionSettings

CHANNELS = (32, 64, 128, 128)
SDXL_CHANNELS = (32, 64, 128)
CONTEXT = 48
POOLED = 1280  # features of SDXL's pooled prompt
CPU = torch.device("cpu")


def unet_config(levels: int = 4) -> dict[str, Any]:
    """SD1.5's block structure at a tenth of its width. ComfyUI pops from these lists: make them anew."""
    return {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": CHANNELS[0],
        "num_res_blocks": [2] * levels,
        "channel_mult": [1, 2, 4, 4][:levels],
        "transformer_depth": [1, 1] * (levels - 1) + [0, 0],
        "transformer_depth_output": [1, 1, 1] * (levels - 1) + [0, 0, 0],
        "transformer_depth_middle": 1,
        "use_linear_in_transformer": False,
        "context_dim": CONTEXT,
        "num_heads": 8,
        "legacy": False,
        "use_spatial_transformer": True,
        "adm_in_channels": None,
        "use_temporal_attention": False,
    }


def sdxl_config() -> dict[str, Any]:
    """SDXL's block structure: three levels, none of the transformers in the first."""
    return unet_config(3) | {
        "transformer_depth": [0, 0, 1, 1, 2, 2],
        "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
        "transformer_depth_middle": 2,
        "use_linear_in_transformer": True,
        "num_classes": "sequential",
        "adm_in_channels": POOLED + 6 * 256,
    }


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Weights of a trained net's size, and no norm or bias that is trivially one or zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith(".pe"):
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.1 * noise + (1.0 if "norm" in name and name.endswith("weight") else 0.0))


def make_model(levels: int = 4, seed: int = 0, **changes: Any) -> comfy.model_patcher.ModelPatcher:
    config = comfy.supported_models.SD15(unet_config(levels) | changes)
    model = comfy.model_base.BaseModel(config, device=CPU).eval()
    randomise(model.diffusion_model, seed)
    return comfy.model_patcher.CoreModelPatcher(model, load_device=CPU, offload_device=CPU)


def make_sdxl_model(seed: int = 0) -> comfy.model_patcher.ModelPatcher:
    model = comfy.model_base.SDXL(comfy.supported_models.SDXL(sdxl_config()), device=CPU).eval()
    randomise(model.diffusion_model, seed)
    return comfy.model_patcher.CoreModelPatcher(model, load_device=CPU, offload_device=CPU)


def motion_config(family: str = "v2", channels: tuple[int, ...] = CHANNELS) -> MotionModelConfig:
    return MotionModelConfig.for_unet(channels, mid=family == "v2", pe_length=24 if family == "v1" else 32)


def motion_state_dict(
    family: str = "v2", seed: int = 1, channels: tuple[int, ...] = CHANNELS, config: MotionModelConfig | None = None
) -> dict[str, Tensor]:
    """Random weights under the original AnimateDiff keys."""
    weights = random_motion(config or motion_config(family, channels), seed)
    return {key: value.clone() for key, value in weights.items()}


@functools.lru_cache(maxsize=16)
def random_motion(config: MotionModelConfig, seed: int) -> dict[str, Tensor]:
    with torch.inference_mode(False):  # for tests of either kind
        model = MotionModel(config)
        randomise(model, seed)
        return model.state_dict()


def load_motion(folder: Path, family: str = "v2", seed: int = 1, **options: Any) -> LoadedMotionModel:
    """Write a motion-module file and load it, as a user does."""
    path = folder / f"{family}_{seed}.safetensors"
    safetensors.torch.save_file(motion_state_dict(family, seed, **options), path)
    return load_motion_model(str(path))


def animate(model: Any, motion: LoadedMotionModel, **settings: Any) -> Any:
    """Apply a motion model with settings by name."""
    return animation.animate(model, motion, MotionSettings(**settings))


def conditioning(seed: int = 5) -> list:
    """A prompt, as either base takes it."""
    generator = torch.Generator().manual_seed(seed)
    tokens, pooled = torch.randn(1, 77, CONTEXT, generator=generator), torch.randn(1, POOLED, generator=generator)
    return [[tokens, {"pooled_output": pooled}]]


def sample(
    model: Any, frames: int = 6, steps: int = 2, cfg: float = 3.0, size: int = 8, positive: Any = None, **options: Any
) -> Tensor:
    """KSampler's own function; (frames, 4, size, size)."""
    noise = torch.randn(frames, 4, size, size, generator=torch.Generator().manual_seed(9))
    latent = torch.zeros_like(noise)
    positive = positive if positive is not None else conditioning(5)
    return comfy.sample.sample(
        model, noise, steps, cfg, "euler", "normal", positive, conditioning(6), latent, seed=3, **options
    )
