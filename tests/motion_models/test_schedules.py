"""The noise schedule and the norm scope that a motion module brings into a MODEL."""

from __future__ import annotations

from typing import Any

import comfy.model_sampling
import diffusers_oracle as oracle
import pytest
import torch
from comfy_support import animate, load_motion, make_model
from diffusers import DDIMScheduler

from animatediff_native.motion_models.schedules import BETA_SCHEDULES


def test_norm_scope_of_v1_is_not_that_of_v3(tmp_path):
    """Else the parity test of v1 would prove nothing."""
    model = make_model()
    v1, *_ = oracle.noise_found(animate(model, load_motion(tmp_path, "v1")), 1.0)
    v3, *_ = oracle.noise_found(animate(model, load_motion(tmp_path, "v3")), 1.0)
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


@pytest.mark.parametrize("name", [name for name, betas in BETA_SCHEDULES.items() if not betas.lcm_timesteps])
def test_schedule_keeps_the_prediction_type(name, tmp_path):
    class Sampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.V_PREDICTION):
        pass

    model: Any = make_model()
    model.add_object_patch("model_sampling", Sampling(model.model.model_config, zsnr=True))
    before: Any = model.get_model_object("model_sampling").sigmas.clone()
    sampling: Any = animate(model, load_motion(tmp_path), beta_schedule=name).get_model_object("model_sampling")
    assert isinstance(sampling, Sampling)
    assert sampling.zsnr
    assert (sampling.sigmas - before).abs().max() > 0.01 or name == "Stable Diffusion"
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
