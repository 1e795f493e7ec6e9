"""diffusers' FreeInit as an oracle, and KSampler's own function to loop over."""

from __future__ import annotations

from typing import Any

import comfy.sample
import torch
from comfy_support import CPU
from diffusers import DDIMScheduler
from diffusers.pipelines import free_init_utils
from node_support import FRAMES, NEGATIVE, POSITIVE, SIZE

SEED, NEXT_SEED = 3, 1_000_003
"""Of the first iteration and of the second."""
SHAPE = (FRAMES, 4, SIZE, SIZE)
SAME, DIFFERENT = 1e-4, 1e-2  # relative errors: rounding, and another result


class DiffusersFreeInit(free_init_utils.FreeInitMixin):
    """diffusers' FreeInit, without the rest of a pipeline. Its layout is (1, c, f, h, w)."""

    scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)

    def __init__(self):
        self.enable_free_init()
        self.scheduler.set_timesteps(1)

    def noise(self, monkeypatch, clip: torch.Tensor, first: torch.Tensor, fresh: torch.Tensor) -> torch.Tensor:
        """For the next iteration, from the last one's `clip`, the first one's noise, and a fresh draw."""
        monkeypatch.setattr(free_init_utils, "randn_tensor", lambda **_: to_diffusers(fresh))
        self._free_init_initial_noise = to_diffusers(first)
        unused: Any = None
        mixed, _ = self._apply_free_init(to_diffusers(clip), 1, 0, CPU, torch.float32, unused)
        return from_diffusers(mixed)


def to_diffusers(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(0, 1).unsqueeze(0)


def from_diffusers(x: torch.Tensor) -> torch.Tensor:
    return x[0].transpose(0, 1)


def sampled(
    model: Any, noise: torch.Tensor, latent: torch.Tensor | None = None, seed: int = SEED, **options: Any
) -> torch.Tensor:
    """What KSampler's own function gives for `noise`, in the model's scale as all latents here."""
    latent = torch.zeros_like(noise) if latent is None else model.model.process_latent_out(latent)
    settings = {"steps": 3, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal"}
    settings |= {"positive": POSITIVE, "negative": NEGATIVE} | options
    return model.model.process_latent_in(
        comfy.sample.sample(model, noise, latent_image=latent, seed=seed, disable_pbar=True, **settings)
    )
