"""A whole sampling step of an animated MODEL against diffusers' UNet with the same weights."""

from __future__ import annotations

from typing import Any

import comfy.model_sampling
import comfy.sample
import comfy.samplers
import diffusers_oracle as oracle
import pytest
import torch
from comfy_support import animate, conditioning, load_motion, make_model, motion_state_dict
from diffusers import DDIMScheduler

from motion_models.schedules import BETA_SCHEDULES

FRAMES, CFG, TIMESTEP = 6, 3.0, 500


def noise_added(model: Any, cfg: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One Euler step to zero from timestep 500: the noise that the sampler found, the UNet's input, the timestep."""
    sampling = model.get_model_object("model_sampling")
    sigmas = torch.stack((sampling.sigmas[TIMESTEP], torch.zeros(())))
    noise = torch.randn(FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(9))
    sampler = comfy.samplers.sampler_object("euler")
    latent = comfy.sample.sample_custom(
        model, noise, cfg, sampler, sigmas, conditioning(5), conditioning(6), torch.zeros_like(noise)
    )
    sigma, x = sigmas[0], noise * sigmas[0]
    denoised = model.model.process_latent_in(latent)
    return (x - denoised) / sigma, x / (sigma**2 + 1) ** 0.5, torch.tensor(TIMESTEP)


@pytest.mark.parametrize("family", ["v1", "v2", "v3"])
def test_sampling_step_equals_diffusers(family, tmp_path):
    model = make_model()
    found, x, timestep = noise_added(animate(model, load_motion(tmp_path, family)), CFG)

    diffusers = oracle.make_oracle(model.model.diffusion_model, motion_state_dict(family))
    if family == "v1":
        oracle.res_norms_over_frames(diffusers, FRAMES)
    positive, negative = (oracle.predict(diffusers, x, timestep, conditioning(seed)[0][0]) for seed in (5, 6))
    assert oracle.relative_error(found, negative + (positive - negative) * CFG) < 1e-5


def test_norm_scope_of_v1_is_not_that_of_v3(tmp_path):
    """Else the parity test of v1 would prove nothing."""
    model = make_model()
    v1, *_ = noise_added(animate(model, load_motion(tmp_path, "v1")), 1.0)
    v3, *_ = noise_added(animate(model, load_motion(tmp_path, "v3")), 1.0)
    assert oracle.relative_error(v1, v3) > 1e-2


def test_automatic_schedule_is_the_papers(tmp_path):
    model = animate(make_model(), load_motion(tmp_path))
    alphas = DDIMScheduler(beta_schedule="linear", beta_start=0.00085, beta_end=0.012).alphas_cumprod
    sigmas = model.get_model_object("model_sampling").sigmas
    torch.testing.assert_close(sigmas, ((1 - alphas) / alphas) ** 0.5, rtol=1e-4, atol=1e-5)


def test_stable_diffusion_schedule_is_scaled_linear(tmp_path):
    model = animate(make_model(), load_motion(tmp_path), beta_schedule="Stable Diffusion")
    alphas = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012).alphas_cumprod
    sigmas = model.get_model_object("model_sampling").sigmas
    torch.testing.assert_close(sigmas, ((1 - alphas) / alphas) ** 0.5, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BETA_SCHEDULES)
def test_schedule_keeps_the_prediction_type(name, tmp_path):
    class Sampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.V_PREDICTION):
        pass

    model: Any = make_model()
    model.add_object_patch("model_sampling", Sampling(model.model.model_config, zsnr=True))
    before = model.get_model_object("model_sampling").sigmas.clone()
    sampling: Any = animate(model, load_motion(tmp_path), beta_schedule=name).get_model_object("model_sampling")
    assert isinstance(sampling, Sampling)
    assert sampling.zsnr
    assert not torch.allclose(sampling.sigmas, before) or name == "Stable Diffusion"
    assert torch.equal(model.get_model_object("model_sampling").sigmas, before), "the input MODEL was changed"


def test_schedule_keeps_the_timesteps_of_a_distilled_model(tmp_path):
    """LCM's sampling, set by core's ModelSamplingDiscrete node before the module is applied."""
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    (lcm,) = ModelSamplingDiscrete().patch(make_model(), "lcm", zsnr=False)
    sampling: Any = animate(lcm, load_motion(tmp_path)).get_model_object("model_sampling")
    every: Any = animate(make_model(), load_motion(tmp_path)).get_model_object("model_sampling")
    assert torch.equal(sampling.sigmas, every.sigmas[19::20])
    assert torch.equal(sampling.timestep(sampling.sigmas), torch.arange(19, 1000, 20))
    assert sampling.percent_to_sigma(0.5) == pytest.approx(every.percent_to_sigma(0.5), rel=0.05)
