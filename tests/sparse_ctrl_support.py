"""SparseCtrl files and their oracle: diffusers' class with the same weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import comfy.sd
import safetensors.torch
import torch
from comfy.taesd.taesd import TAESD
from comfy_support import CHANNELS, CONTEXT, randomise
from diffusers import SparseControlNetModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from diffusers_oracle import PerFrame
from torch import Tensor

from animatediff_native.sampling.sparse_control import SparseControl, SparseCtrlSettings, load_sparse_control

PICTURE = {"rgb": 4, "scribble": 3}  # channels
ORIGINAL = (
    (".attn1.", ".attention_blocks.0."),
    (".pos_embed.pe", ".attention_blocks.0.pos_encoder.pe"),
    (".norm1.", ".norms.0."),
    (".norm3.", ".ff_norm."),
)


@cache
def sparse_oracle(
    kind: str = "rgb", channels: tuple[int, ...] = CHANNELS, seed: int = 7, context: int = CONTEXT
) -> SparseControlNetModel:
    """diffusers' network with random weights, also where it starts with zeros. Its motion modules normalise per frame,
    as those of the official code do."""
    oracle = SparseControlNetModel(
        conditioning_channels=PICTURE[kind],
        use_simplified_condition_embedding=kind == "rgb",
        block_out_channels=channels,
        down_block_types=("CrossAttnDownBlockMotion",) * (len(channels) - 1) + ("DownBlockMotion",),
        cross_attention_dim=context,
        attention_head_dim=8,
        motion_num_attention_heads=8,
        transformer_layers_per_mid_block=1,
    ).eval()
    randomise(oracle, seed)
    for module in oracle.modules():
        if isinstance(module, AnimateDiffTransformer3D):
            module.norm.__class__ = PerFrame
    return oracle


def original_layout(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights as the authors' files name them."""

    def rename(key: str) -> str:
        block, module, rest = key.partition(".motion_modules.")
        if not module:
            return key
        index, _, rest = rest.partition(".")
        rest = f".{rest}"
        for theirs, original in ORIGINAL:
            rest = rest.replace(theirs, original)
        return f"{block}{module}{index}.temporal_transformer{rest}"

    return {rename(key): tensor for key, tensor in state_dict.items()}


def without_positions(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state_dict.items() if not key.endswith(".pe")}


def load_sparse(
    folder: Path, kind: str = "rgb", channels: tuple[int, ...] = CHANNELS, seed: int = 7, **settings: Any
) -> SparseControl:
    """Write a SparseCtrl file and load it, as a user does."""
    return load_sparse_control(str(save_sparse(folder, kind, channels, seed)), SparseCtrlSettings(**settings))


def save_sparse(folder: Path, kind: str, channels: tuple[int, ...], seed: int = 7, context: int = CONTEXT) -> Path:
    path = folder / f"{kind}_{len(channels)}_{seed}.safetensors"
    if not path.exists():
        safetensors.torch.save_file(original_layout(sparse_oracle(kind, channels, seed, context).state_dict()), path)
    return path


def oracle_features(
    oracle: SparseControlNetModel, noisy: Tensor, hint: Tensor, timestep: Tensor, context: Tensor
) -> list[Tensor]:
    """What diffusers' network adds to the UNet's features for one clip: `noisy` (f, c, h, w), `hint`, picture and mask,
    (f, c + 1, h, w), and `context` (f, t, c)."""
    pictures, mask = hint.movedim(0, 1)[None].split((hint.shape[1] - 1, 1), dim=1)
    out = oracle(
        noisy.movedim(0, 1)[None],
        timestep.reshape(1),
        encoder_hidden_states=context,
        controlnet_cond=pictures,
        conditioning_mask=mask,
    )
    return [*out.down_block_res_samples, out.mid_block_res_sample]


def make_vae() -> Any:
    """A small VAE of ComfyUI's with random weights."""
    network = TAESD()
    randomise(network, seed=11)
    return comfy.sd.VAE(sd=network.state_dict())


def pictures(n: int, seed: int = 2) -> Tensor:
    """(n, 64, 64, 3), of the size of the small models' clips."""
    return torch.rand(n, 64, 64, 3, generator=torch.Generator().manual_seed(seed))
