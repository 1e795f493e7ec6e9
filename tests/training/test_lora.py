"""Trained LoRAs mean the same to ComfyUI as to the training."""

from __future__ import annotations

import comfy.lora
import pytest
import torch
from comfy_support import make_model, sample

from animatediff_native.training.lora import lora


@pytest.mark.autograd
def test_core_applies_the_file_as_it_was_trained():
    torch.manual_seed(0)
    model = make_model()
    unet = model.model.diffusion_model
    layers = [name for name, layer in unet.named_modules() if isinstance(layer, (torch.nn.Linear, torch.nn.Conv2d))]
    before = {key: tensor.clone() for key, tensor in unet.state_dict().items()}
    with lora(unet, layers, rank=3) as parameters:
        for name, parameter in parameters.items():
            if "lora_up" in name:
                parameter.data.normal_(0, 0.05)
        adapted = {f"{name}.weight": unet.get_submodule(name).weight.detach() for name in layers}
    assert all(torch.equal(tensor, before[key]) for key, tensor in unet.state_dict().items())
    file = {f"diffusion_model.{name}": value.detach() for name, value in parameters.items()}

    patches = comfy.lora.load_lora(file, comfy.lora.model_lora_keys_unet(model.model, {}))
    patched = model.clone()
    assert len(patched.add_patches(patches, 1.0)) == len(layers)
    expected = make_model()
    expected.model.diffusion_model.load_state_dict(adapted, strict=False)
    with torch.inference_mode():
        result, wanted = sample(patched), sample(expected)
    assert (result - wanted).norm() / wanted.norm() < 1e-4
    assert (sample(model) - wanted).norm() / wanted.norm() > 1e-2


@pytest.mark.autograd
def test_training_starts_at_the_model_itself_with_features_of_unit_size():
    layer = torch.nn.Sequential(torch.nn.Linear(400, 300))
    with lora(layer, ["0"], rank=64, generator=torch.Generator().manual_seed(0)) as parameters:
        assert not parameters["0.lora_up.weight"].any()
        features = torch.randn(100, 400) @ parameters["0.lora_down.weight"].detach().T
    assert abs(features.std() - 1) < 0.05
