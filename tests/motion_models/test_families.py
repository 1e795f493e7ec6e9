"""Every family in the layout that it was published in: a file, the real loader, a real sampling step, and diffusers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import diffusers_oracle as oracle
import pytest
import safetensors.torch
import torch
from comfy_support import CHANNELS, SDXL_CHANNELS, animate, make_model, make_sdxl_model, motion_state_dict
from diffusers import LCMScheduler
from picture_support import picture_weights
from torch import Tensor

from animatediff_native.motion_models import formats
from animatediff_native.motion_models.formats import (
    HOTSHOT,
    LCM,
    LCM_I2V,
    LONG,
    PIA,
    SDXL,
    V1,
    V2,
    V3,
    Family,
    hint,
    read_motion_file,
)
from animatediff_native.motion_models.loader import load_motion_model
from animatediff_native.motion_models.motion_model import MotionModel, MotionModelConfig
from animatediff_native.motion_models.saving import save


def weights(mid: bool, pe_length: int, channels: tuple[int, ...] = CHANNELS) -> dict[str, Tensor]:
    """A motion model's random weights under the original keys."""
    return motion_state_dict(config=MotionModelConfig.for_unet(channels, mid=mid, pe_length=pe_length))


def as_diffusers(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    return {oracle.rename(key): tensor for key, tensor in state_dict.items()}


def as_hotshot(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        key.replace(".motion_modules.", ".temporal_attentions.")
        .replace(".temporal_transformer.", ".")
        .replace(".pos_encoder.pe", ".pos_encoder.positional_encoding"): tensor
        for key, tensor in state_dict.items()
    }


def without_positions(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state_dict.items() if not key.endswith(".pe")}


def in_whole_unet(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """As a trainer saves it, with the checkpoint that it was trained on."""
    others = ("conv_in.bias", "down_blocks.0.resnets.0.conv1.weight", "time_embedding.linear_1.bias", "conv_out.bias")
    return {f"module.{key}": t for key, t in {**dict.fromkeys(others, torch.ones(32)), **state_dict}.items()}


def same(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    return state_dict


# family, weights, the layout that they are written in
PUBLISHED: dict[str, tuple[Family, Callable[[], dict[str, Tensor]], Callable[[dict[str, Tensor]], dict[str, Tensor]]]]
PUBLISHED = {
    "v1": (V1, lambda: weights(False, 24), same),
    "v2": (V2, lambda: weights(True, 32), same),
    "v3": (V3, lambda: weights(False, 32), same),
    "v3 of 40 frames": (V3, lambda: weights(False, 40), same),
    "LongAnimateDiff": (LONG, lambda: weights(True, 64), same),
    "AnimateLCM": (LCM, lambda: weights(True, 64), without_positions),
    "PIA": (PIA, lambda: picture_weights("PIA"), in_whole_unet),
    "AnimateLCM-I2V": (LCM_I2V, lambda: weights(True, 64) | picture_weights("AnimateLCM-I2V"), without_positions),
    "diffusers PIA": (PIA, lambda: picture_weights("PIA"), as_diffusers),
    "diffusers v1": (V1, lambda: weights(False, 24), as_diffusers),
    "diffusers v2": (V2, lambda: weights(True, 32), as_diffusers),
    "diffusers v2 without positions": (V2, lambda: weights(True, 32), lambda sd: without_positions(as_diffusers(sd))),
    "diffusers v3": (V3, lambda: weights(False, 32), as_diffusers),
    "AnimateDiff-SDXL": (SDXL, lambda: weights(False, 32, SDXL_CHANNELS), same),
    "diffusers SDXL": (SDXL, lambda: weights(False, 32, SDXL_CHANNELS), as_diffusers),
    "HotshotXL": (HOTSHOT, lambda: weights(False, 24, SDXL_CHANNELS), as_hotshot),
}


def write(path, name: str, dtype: torch.dtype = torch.float32) -> str:
    """The published file of an entry of PUBLISHED."""
    _, make, layout = PUBLISHED[name]
    file = path / "motion.safetensors"
    stored = {key: tensor.to(dtype).clone() for key, tensor in layout(make()).items()}
    safetensors.torch.save_file(stored, file)
    return str(file)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_layout_is_recognised(name, tmp_path):
    family, make, _ = PUBLISHED[name]
    loaded = load_motion_model(write(tmp_path, name))
    assert loaded.family == family
    expected = make()
    weights = loaded.patcher.model.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_sampling_step_equals_diffusers(name, tmp_path):
    family, make, _ = PUBLISHED[name]
    plain = make_sdxl_model() if family.base == "SDXL" else make_model()
    lcm = family in (LCM, LCM_I2V)  # which changes what is made of the noise
    schedule = {"beta_schedule": "AnimateDiff SD1.5"} if lcm else {}
    animated = animate(plain, load_motion_model(write(tmp_path, name)), **schedule)
    predicted, expected = oracle.compare_step(
        plain, animated, make(), per_frame=not family.norm_over_frames,
        res_over_frames=family.unet_norms_over_frames,
    )  # fmt: skip
    assert oracle.relative_error(predicted, expected) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("name", ["v3", "AnimateDiff-SDXL"])
def test_smaller_types_load_and_stay_close(name, dtype, tmp_path):
    family, make, _ = PUBLISHED[name]
    plain = make_sdxl_model() if family.base == "SDXL" else make_model()
    animated = animate(plain, load_motion_model(write(tmp_path, name, dtype)))
    predicted, expected = oracle.compare_step(
        plain, animated, make(), per_frame=not family.norm_over_frames,
        res_over_frames=family.unet_norms_over_frames,
    )  # fmt: skip
    assert torch.isfinite(predicted).all()
    if dtype.itemsize == 2:
        assert oracle.relative_error(predicted, expected) < 1e-2


@pytest.mark.parametrize(
    ("name", "stretch_to"),
    [
        ("v1", 32),
        ("v3", 24),
        ("v2", 64),
        ("AnimateLCM", 0),
        ("HotshotXL", 0),
        ("AnimateDiff-SDXL", 0),
        ("PIA", 40),
        ("AnimateLCM-I2V", 0),
    ],
)
def test_a_saved_module_stays_of_its_family(tmp_path, name, stretch_to):
    """Though its weights alone, or the number of its positions, would now be those of another."""
    motion = load_motion_model(write(tmp_path, name), stretch_to)
    save(motion, str(tmp_path / "saved.safetensors"))
    saved = load_motion_model(str(tmp_path / "saved.safetensors"))
    assert saved.family == motion.family
    assert saved.family.name == PUBLISHED[name][0].name
    assert saved.config == motion.config


def test_only_a_module_of_its_own_base_is_applied(tmp_path):
    loaded = load_motion_model(write(tmp_path, "AnimateDiff-SDXL"))
    with pytest.raises(ValueError, match=r"is an AnimateDiff-SDXL module for SDXL, a UNet with 32/64/128 channels"):
        animate(make_model(), loaded)
    loaded = load_motion_model(write(tmp_path, "HotshotXL"))
    with pytest.raises(ValueError, match=r"is a HotshotXL module for SDXL"):
        animate(make_model(), loaded)


def test_animate_lcm_samples_as_latent_consistency_models_do(tmp_path):
    loaded = load_motion_model(write(tmp_path, "AnimateLCM"))
    assert loaded.config.pe_length == 64
    sampling: Any = animate(make_model(), loaded).get_model_object("model_sampling")
    authors: Any = animate(make_model(), loaded, beta_schedule="LCM (100 timesteps)").get_model_object("model_sampling")
    of_pictures: Any = animate(make_model(), loaded, beta_schedule="AnimateLCM-I2V").get_model_object("model_sampling")
    for schedule, betas, beta_end, timesteps in (
        (sampling, "scaled_linear", 0.012, 50),
        (authors, "linear", 0.012, 100),
        (of_pictures, "linear", 0.014, 200),
    ):
        scheduler = LCMScheduler(beta_schedule=betas, beta_start=0.00085, beta_end=beta_end)
        scheduler.set_timesteps(4, original_inference_steps=timesteps)
        alphas = scheduler.alphas_cumprod[1000 // timesteps - 1 :: 1000 // timesteps]
        torch.testing.assert_close(schedule.sigmas, ((1 - alphas) / alphas) ** 0.5, rtol=1e-4, atol=1e-5)
        used = schedule.timestep(schedule.sigmas).tolist()
        assert set(scheduler.timesteps.tolist()) <= set(used)
        # The consistency function: at timestep t the picture is c_skip x + c_out x0 (arXiv 2310.04378, section 4.1).
        x, noise, sigma = torch.ones(1, 4, 1, 1), torch.full((1, 4, 1, 1), 0.1), schedule.sigmas[-1:]
        c_skip, c_out = (torch.as_tensor(c) for c in scheduler.get_scalings_for_boundary_condition_discrete(used[-1]))
        expected = c_out * (x - sigma * noise) + c_skip * x
        torch.testing.assert_close(schedule.calculate_denoised(sigma, noise, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "family", "expected"),
    [
        ("animatediff_lightning_4step_comfyui.safetensors", V2, "4 steps, cfg 1, sampler euler, scheduler sgm_uniform"),
        ("lt_long_mm_32_frames.ckpt", V2, "motion scale 1.15"),
        ("renamed.ckpt", LONG, "motion scale 1.28"),
        ("mm_sd_v15_v2.ckpt", V2, ""),
    ],
)
def test_recommended_settings_are_named(name, family, expected):
    assert hint(family, name) == expected


def test_a_files_name_decides_nothing_else(tmp_path):
    file = tmp_path / "v3_sd15_mm_hotshotxl_sdxl.safetensors"
    safetensors.torch.save_file(weights(True, 32), file)
    assert load_motion_model(str(file)).family == V2


def calls_of_detection(other_keys: int) -> int:
    """Count the function calls that detection makes for a full-size training checkpoint, at which it is v2."""
    config = MotionModelConfig.for_unet((320, 640, 1280, 1280), mid=True)
    module = MotionModel(config, device=torch.device("meta")).state_dict()
    weights = {f"module.{key}": torch.zeros(1).expand(tensor.shape) for key, tensor in module.items()}
    weights |= {f"module.down_blocks.{i % 4}.resnets.{i}.conv1.weight": torch.zeros(1) for i in range(other_keys)}
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        family = read_motion_file({"state_dict": weights}, "mm.ckpt").family
    finally:
        sys.setprofile(None)
    assert family == V2
    return calls


def test_detection_looks_at_every_key_a_few_times(monkeypatch):
    """Beyond reading the weights it takes about 30 ms, and a key more does not cost more in a larger file."""
    monkeypatch.setattr(formats, "is_finite", lambda _: True)  # reads every weight
    small, large = calls_of_detection(700), calls_of_detection(2800)
    assert small < 200_000
    assert (large - small) / 2100 < 100
