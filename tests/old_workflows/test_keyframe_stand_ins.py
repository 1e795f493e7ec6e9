"""The nodes for pictures in old workflows give, bit for bit, what Keyframe Images gives in new graphs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import pytest
import torch
from node_support import CHANNELS, FRAMES, NEGATIVE, POSITIVE, SIZE, core_nodes, empty_latent, ksampler, run
from picture_support import load_picture_motion, vae
from PIL import Image
from server_support import node, pixels
from sparse_ctrl_support import pictures, save_sparse

from animatediff_native.old_workflows.convert import convert

CONDITIONING = {"positive": POSITIVE, "negative": NEGATIVE}
SETTINGS = {"strength": 0.7, "end_percent": 0.9}


@pytest.fixture(scope="session")
def control_folder(adn, tmp_path_factory) -> Path:
    """A folder where Load SparseCtrl looks for files, too."""
    folder = tmp_path_factory.mktemp("controlnet")
    folder_paths.add_model_folder_path("controlnet", str(folder))
    return folder


@pytest.fixture
def keyframes(adn) -> Callable[..., Any]:
    return lambda images, **inputs: run(adn["ADN_KeyframeImages"], images=images, **inputs)


def controlled(control: Any, image: Any) -> list:
    """Both prompts after ComfyUI's Apply ControlNet."""
    node = core_nodes.ControlNetApplyAdvanced
    inputs: dict[str, Any] = {"start_percent": 0.0, **SETTINGS, **CONDITIONING}
    return list(run(node, control_net=control, image=image, **inputs))


@pytest.mark.parametrize("node", ["AdvancedControlNetApply", "AdvancedControlNetApply_v2", "ComfyUI's"])
@pytest.mark.parametrize(("kind", "frames"), [("rgb", "1, -1"), ("scribble", "1, -1"), ("scribble", "")])
def test_sparse_ctrl_nodes_are_load_sparse_ctrl_with_keyframe_images(
    adn, old, keyframes, model, control_folder, kind, frames, node
):
    name, images, of_kind = save_sparse(control_folder, kind, CHANNELS).name, pictures(2), {}
    hint = images
    if kind == "rgb":
        of_kind = {"vae": vae()}
        hint = old("SparseCtrlRGBPreprocessor", image=images, latent_size=empty_latent(), **of_kind)
    method = old("SparseCtrlIndexMethodNode", indexes=frames) if frames else old("SparseCtrlSpreadMethodNode")
    settings = {"motion_strength": 0.9, "motion_scale": 1.1, "context_aware": "off"}
    control = old("SparseCtrlLoaderAdvanced", sparsectrl_name=name, sparse_method=method, **settings)
    if node == "ComfyUI's":
        conditioning = controlled(control, hint)
    else:
        *conditioning, handed_on = old(
            node, control_net=control, image=hint, model_optional=model, **SETTINGS, **CONDITIONING
        )
        assert handed_on is model
    settings = {"strength": 0.9, "motion_scale": 1.1, "far_keyframes": "none"}
    ours = run(adn["ADN_LoadSparseCtrl"], sparse_ctrl=name, **settings)
    assert replace(control.settings, positions=()) == ours.settings
    expected = ksampler(model, *controlled(ours, keyframes(images, frames=frames, **of_kind)))
    assert torch.equal(ksampler(model, *conditioning), expected)
    assert not torch.equal(ksampler(model, *controlled(ours, keyframes(images, frames="0, 2", **of_kind))), expected)


def test_what_sparse_ctrl_does_otherwise_is_said_in_the_log(old, control_folder, caplog):
    name = save_sparse(control_folder, "scribble", CHANNELS).name
    method = old("SparseCtrlSpreadMethodNode", spread="center")
    with caplog.at_level(logging.WARNING):
        old("SparseCtrlLoaderAdvanced", sparsectrl_name=name, sparse_method=method, sparse_hint_mult=0.5)
    assert "spread center becomes even" in caplog.text
    assert "sparse_hint_mult 0.5 is left out" in caplog.text


def masks() -> torch.Tensor:
    return torch.rand(FRAMES, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


# PIA Input's node, its inputs and its multival; settings of Apply AnimateDiff, and of the Motion Curve at its strength.
PIA: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "nothing": ("", {}, {}, {"keyframe_motion": "none"}, {}),
    "preset": (
        "InputPIA_PaperPresets",
        {"preset": "Loop (Large Motion)", "batch_index": -1},
        {},
        {"keyframe_motion": "large loop", "frames": "-1"},
        {},
    ),
    "number": ("InputPIA_Multival", {}, {"float_val": 0.6}, {"keyframe_motion": "none", "keyframe_strength": 0.6}, {}),
    "preset and mask": (
        "InputPIA_PaperPresets",
        {"preset": "Style Transfer (Small Motion)", "batch_index": 2},
        {"float_val": 0.5, "mask_optional": masks()},
        {"keyframe_motion": "small style transfer", "frames": "2"},
        {"source": masks(), "high": 0.5},
    ),
}


@pytest.mark.parametrize("kind", PIA)
def test_pia_is_apply_animatediff_with_keyframes(adn, old, keyframes, apply, model, motion_folder, kind):
    node, inputs, multival, ours, curve = PIA[kind]
    ours, images = {"frames": "0"} | ours, pictures(1)
    motion = load_picture_motion(motion_folder, "PIA", channels=CHANNELS)
    frames = {"keyframes": keyframes(images, frames=ours.pop("frames"), vae=vae())}
    strength = {"keyframe_strength": run(adn["ADN_MotionCurve"], **curve)} if curve else {}
    expected = ksampler(apply(model, motion, **frames, **ours, **strength))
    if multival:
        name = "multival" if node == "InputPIA_Multival" else "mult_multival"
        inputs = inputs | {name: old("MultivalDynamic", **multival)}
    settings = {"pia_input": old(node, **inputs)} if node else {}
    loaded = old("LoadAnimateDiffModel", model_name="PIA.safetensors")
    applied = old("ApplyAnimateDiffModelWithPIA", motion_model=loaded, image=images, vae=vae(), **settings)
    assert torch.equal(ksampler(old("UseEvolvedSampling", model=model, m_models=applied)), expected)
    assert not torch.equal(ksampler(apply(model, motion, **frames)), expected)


@pytest.mark.parametrize("count", [1, FRAMES])
def test_animate_lcm_i2v_is_apply_animatediff_with_keyframes(old, keyframes, apply, model, motion_folder, count):
    """Its latents may come from any node, so that their pictures are not known."""
    images = pictures(count)
    motion = load_picture_motion(motion_folder, "AnimateLCM-I2V", channels=CHANNELS)
    expected = ksampler(apply(model, motion, keyframes=keyframes(images, vae=vae()), keyframe_drift=0.3))
    latent = run(core_nodes.VAEEncode, pixels=images, vae=vae())
    loaded = old("LoadAnimateLCMI2VModel", model_name="AnimateLCM-I2V.safetensors")
    applied = old("ApplyAnimateLCMI2VModel", motion_model=loaded, ref_latent=latent, ref_drift=0.3)
    assert torch.equal(ksampler(old("UseEvolvedSampling", model=model, m_models=applied)), expected)
    assert not torch.equal(ksampler(apply(model, motion, keyframe_drift=0.3)), expected)


def test_pictures_are_scaled_to_the_clip_and_encoded(old):
    images = torch.rand(2, 48, 96, 3, generator=torch.Generator().manual_seed(1))
    settings = {"upscale_method": "lanczos", "width": 8 * SIZE, "height": 8 * SIZE, "crop": "center"}
    scaled = run(core_nodes.ImageScale, image=images, **settings)
    sized = {"latent_size": empty_latent(), "scale_method": "lanczos"}
    latent = old("UpscaleAndVAEEncode", image=images, vae=vae(), **sized)
    assert torch.equal(latent["samples"], run(core_nodes.VAEEncode, pixels=scaled, vae=vae())["samples"])


MINIATURE = (64, 64, 64, 64)  # channels


def old_prompt(server: Any) -> dict[str, Any]:
    """Two pictures at the ends of a clip, for all three families, as a script sends it. Their files are random."""
    modules, controls = (server.base / "models" / name for name in ("animatediff_models", "controlnet"))
    for folder in (modules, controls, server.base / "input"):
        folder.mkdir(parents=True, exist_ok=True)
    for family in ("PIA", "AnimateLCM-I2V"):
        load_picture_motion(modules, family, channels=MINIATURE)
    for name, colour in (("first", "red"), ("last", "blue")):
        Image.new("RGB", (64, 64), colour).save(server.base / "input" / f"{name}.png")
    encoder = {"vae": ["1", 2]}
    sampler = {"cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    return {
        "1": node("CheckpointLoaderSimple", ckpt_name="miniature.safetensors"),
        "2": node("LoadImage", image="first.png"),
        "3": node("LoadImage", image="last.png"),
        "4": node("ImageBatch", image1=["2", 0], image2=["3", 0]),
        "5": node("EmptyLatentImage", width=64, height=64, batch_size=4),
        "6": node("ADE_LoadAnimateDiffModel", model_name="PIA.safetensors"),
        "7": node("ADE_InputPIA_PaperPresets", preset="Loop (Large Motion)", batch_index=1, print_values=False),
        "8": node("ADE_ApplyAnimateDiffModelWithPIA", motion_model=["6", 0], image=["2", 0], pia_input=["7", 0],
                  start_percent=0.0, end_percent=0.5, **encoder),
        "9": node("VAEEncode", pixels=["4", 0], **encoder),
        "10": node("ADE_LoadAnimateLCMI2VModel", model_name="AnimateLCM-I2V.safetensors"),
        "11": node("ADE_ApplyAnimateLCMI2VModel", motion_model=["10", 0], ref_latent=["9", 0], ref_drift=0.3,
                   apply_ref_when_disabled=False, start_percent=0.5, end_percent=1.0, prev_m_models=["8", 0]),
        "12": node("ADE_UseEvolvedSampling", model=["1", 0], beta_schedule="autoselect", m_models=["11", 0]),
        "13": node("ACN_SparseCtrlIndexMethodNode", indexes="0, -1"),
        "14": node("ACN_SparseCtrlLoaderAdvanced", motion_strength=0.9, motion_scale=1.0, use_motion=True,
                   sparse_method=["13", 0],
                   sparsectrl_name=save_sparse(controls, "rgb", MINIATURE, context=MINIATURE[0]).name),
        "15": node("ACN_SparseCtrlRGBPreprocessor", image=["4", 0], latent_size=["5", 0], **encoder),
        "16": node("CLIPTextEncode", clip=["1", 1], text="a red star"),
        "17": node("ACN_AdvancedControlNetApply_v2", positive=["16", 0], negative=["16", 0], control_net=["14", 0],
                   image=["15", 0], strength=0.7, start_percent=0.0, end_percent=1.0),
        "18": node("KSampler", model=["12", 0], positive=["17", 0], negative=["17", 1], latent_image=["5", 0], seed=1,
                   steps=4, **sampler),
        "19": node("VAEDecode", samples=["18", 0], **encoder),
        "20": node("SaveAnimatedWEBP", images=["19", 0], filename_prefix="old", fps=8.0, lossless=True, quality=100,
                   method="fastest"),
    }  # fmt: skip


def test_an_old_prompt_gives_the_clip_of_the_converted_one(server):
    prompt = old_prompt(server)
    converted, lost = convert(prompt)
    assert not lost
    old, new = (pixels(server.output_files(server.submit(each))[0].read_bytes()) for each in (prompt, converted))
    np.testing.assert_array_equal(old, new)
    assert old.std() > 1 / 255
