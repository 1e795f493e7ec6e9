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
from node_support import CHANNELS as SMALL
from node_support import NEGATIVE, POSITIVE, core_nodes, error, ksampler, run
from torch import Tensor

from animatediff_native.sampling.keyframes import KeyframeImages, Keyframes, parse_positions
from animatediff_native.sampling.sparse_control import SparseControl, SparseCtrlSettings, load_sparse_control

SAME, DIFFERENT = 1e-5, 1e-3  # relative errors
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


# In a sampling run


def keyframe_images(frames: str, vae: Any = None, n: int = 2) -> KeyframeImages:
    """What Keyframe Images gives."""
    keyframes = Keyframes(pictures(n), parse_positions(frames), vae)
    return KeyframeImages.of(keyframes, keyframes.images)


def controlled(control: Any, images: Any, positive=POSITIVE, negative=NEGATIVE, **options: Any) -> list:
    """Both prompts after Apply ControlNet."""
    settings = {"strength": 0.7, "start_percent": 0.0, "end_percent": 1.0} | options
    conds = {"positive": positive, "negative": negative}
    return list(run(core_nodes.ControlNetApplyAdvanced, control_net=control, image=images, **conds, **settings))


def with_recorded_controls(model: Any) -> tuple[Any, list[dict[str, Any]]]:
    """A clone of the model, and a list that grows by what each UNet call gets."""
    calls: list[dict[str, Any]] = []

    def record(apply_model, call):
        control, sampling = call["c"]["control"], model.get_model_object("model_sampling")
        features = [feature.clone() for kind in ("output", "middle") for feature in control[kind]] if control else None
        window = call["c"]["transformer_options"].get("context_window")
        calls.append(
            {
                "input": call["input"],
                "conds": len(call["cond_or_uncond"]),
                "text": call["c"]["c_crossattn"],
                "timestep": sampling.timestep(call["timestep"])[0],
                "frames": frames_of(window) if window is not None else None,
                "control": features,
            }
        )
        return apply_model(call["input"], call["timestep"], **call["c"])

    model = model.clone()
    model.set_model_unet_function_wrapper(record)
    return model, calls


def frames_of(window: Any) -> list[int]:
    """The frames of a call, with the one before the window that newer versions of ComfyUI add."""
    anchor = getattr(window, "causal_anchor_index", None)
    return [*([] if anchor is None else [anchor]), *window.index_list]


def expected_hint(keyframes: Keyframes, kind: str, places: dict[int, int], shape: torch.Size) -> Tensor:
    """Picture and mask, (f, c + 1, h, w), for latents of that shape, where keyframes stand at the given places."""
    f, _, h, w = shape
    if kind == "rgb":
        seen = keyframes.latents(h, w) * 0.18215
    else:
        seen = keyframes.resized(8 * h, 8 * w).movedim(-1, 1)
    hint = torch.zeros(f, seen.shape[1] + 1, *seen.shape[2:])
    for place, keyframe in places.items():
        hint[place] = torch.cat((seen[keyframe], torch.ones(1, *seen.shape[2:])))
    return hint


def check_call(call: dict[str, Any], kind: str, keyframes: Keyframes, places: dict[int, int]) -> None:
    """Compare what a call gets with what diffusers computes for each of its conds."""
    parts = zip(call["input"].chunk(call["conds"]), call["text"].chunk(call["conds"]), strict=True)
    features = []
    for noisy, text in parts:
        hint = expected_hint(keyframes, kind, places, noisy.shape)
        features.append(oracle_features(sparse_oracle(kind, SMALL), noisy, hint, call["timestep"], text))
    for ours, theirs in zip(call["control"], map(torch.cat, zip(*features, strict=True)), strict=True):
        assert error(ours, 0.7 * theirs) < SAME


def sampled(model: Any, *conds: list, **options: Any) -> Tensor:
    """What KSampler gives in a single step."""
    return ksampler(model, *conds, **{"steps": 1, **options})
