"""What of a motion model a LoRA alters, and the key names under which it is saved, by who is to read it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# Linear layers, by the end of their path in a motion model.
ATTENTION = r"\.to_(q|k|v|out\.0)$"
FEED_FORWARD = r"\.ff\.net\.(0\.proj|2)$"
PROJECTIONS = {"attention": ATTENTION, "attention and feed-forward": f"{ATTENTION}|{FEED_FORWARD}"}

LAYOUTS = ("AnimateDiff", "MotionDirector", "diffusers")
TRANSFORMER = {
    ".temporal_transformer.": ".",
    ".attention_blocks.0.": ".attn1.",
    ".attention_blocks.1.": ".attn2.",
}


def motion_lora_file(trained: Mapping[str, Tensor], layout: str, scale: float = 1.0) -> dict[str, Tensor]:
    """From `<path in the motion model>.lora_up.weight` and `.lora_down.weight` to a file's keys.

    None of the layouts has an alpha that all of its readers know, so the scale goes into the weights.
    """
    spell = {"AnimateDiff": animatediff, "MotionDirector": motiondirector, "diffusers": diffusers}[layout]
    return {spell(key): scaled(key, value, scale) for key, value in trained.items()}


def scaled(key: str, value: Tensor, scale: float) -> Tensor:
    value = value.detach().to("cpu", torch.float32)
    return (value * scale if ".lora_up." in key else value.clone()).contiguous()


def animatediff(key: str) -> str:
    """`x.to_out.0.lora_up.weight` -> `x.processor.to_out_lora.up.weight`; other layers as MotionDirector."""
    if not is_attention(key):
        return motiondirector(key)
    return re.sub(r"\.(to_\w+?)(?:\.0)?\.lora_(up|down)\.", r".processor.\1_lora.\2.", key)


def motiondirector(key: str) -> str:
    """`x.to_out.0.lora_up.weight` -> `x.to_out.processor.0_lora.up.weight`"""
    return re.sub(r"\.(\w+)\.lora_(up|down)\.", r".processor.\1_lora.\2.", key)


def diffusers(key: str) -> str:
    """`x.to_out.0.lora_up.weight` -> `unet.x.to_out.0.lora_B.weight`, as PEFT names them."""
    for ours, theirs in TRANSFORMER.items():
        key = key.replace(ours, theirs)
    return "unet." + key.replace(".lora_up.", ".lora_B.").replace(".lora_down.", ".lora_A.")


def is_attention(key: str) -> bool:
    return re.search(r"\.to_(q|k|v|out\.0)\.", key) is not None


def domain_adapter_file(
    trained: Mapping[str, Tensor], to_diffusers: Mapping[str, str], scale: float = 1.0
) -> dict[str, Tensor]:
    """From `<path in ComfyUI's UNet>.lora_up.weight` to the keys of v3's own domain adapter: `to_diffusers` maps the
    path of a layer to diffusers' name for it, `down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q`."""
    file = {}
    for key, value in trained.items():
        layer, _, rest = key.partition(".lora_")
        file[animatediff(f"{to_diffusers[layer]}.lora_{rest}")] = scaled(key, value, scale)
    return file
