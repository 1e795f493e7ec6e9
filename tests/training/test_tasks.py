"""The frozen image models that motion is trained on, against ComfyUI's own predictions, and what is trained on them."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import comfy.model_base
import comfy.model_patcher
import comfy.supported_models
import comfy_extras.nodes_model_advanced
import pytest
import torch
from comfy.ldm.modules.attention import CrossAttention, attention_pytorch, optimized_attention
from comfy_support import (
    CONTEXT,
    CPU,
    POOLED,
    SDXL_CHANNELS,
    load_motion,
    make_model,
    make_sdxl_model,
    randomise,
    unet_config,
)
from diffusers import DDPMScheduler
from torch import Tensor

from animatediff_native.motion_models import formats, loader, saving, schedules
from animatediff_native.motion_models import lora as motion_lora
from animatediff_native.motion_models import unet as unet_module
from animatediff_native.training import data as data_module
from animatediff_native.training import diffusion as diffusion_module
from animatediff_native.training import frozen_unet, lora, tasks
from animatediff_native.training import motion as motion_module
from animatediff_native.training import processes as processes_module

pytestmark = pytest.mark.autograd
FRAMES, HEIGHT, WIDTH = 3, 8, 16


@pytest.fixture
def frozen():
    def copy(model: Any, dtype: torch.dtype = torch.float32) -> Any:
        return frozen_unet.frozen_copy(model, CPU, dtype)

    return copy


def make_velocity_model() -> Any:
    kind = comfy.model_base.ModelType.V_PREDICTION
    model = comfy.model_base.BaseModel(comfy.supported_models.SD15(unet_config(2)), kind, device=CPU).eval()
    randomise(model.diffusion_model, 0)
    return comfy.model_patcher.CoreModelPatcher(model, load_device=CPU, offload_device=CPU)


def prompts(*tokens: int) -> list[Any]:
    prompt, generator = data_module.Prompt, torch.Generator().manual_seed(4)
    return [
        prompt(torch.randn(count, CONTEXT, generator=generator), torch.randn(POOLED, generator=generator))
        for count in tokens
    ]


def comfyuis_clean(model: Any, noisy: Tensor, timestep: int, prompt: Any) -> Tensor:
    """The clean latents that ComfyUI predicts for the noisy ones of a training, which it wants divided by their share
    of the signal."""
    base = model.model
    sigma = base.model_sampling.sigmas[timestep]
    size = {"width": 8 * WIDTH, "height": 8 * HEIGHT}
    label = base.encode_adm(pooled_output=prompt.pooled[None], device="cpu", **size)
    y = {} if label is None else {"y": label.expand(len(noisy), -1)}
    context = prompt.context.expand(len(noisy), -1, -1)
    with torch.no_grad():
        return base.apply_model(noisy * (1 + sigma**2).sqrt(), sigma.expand(len(noisy)), c_crossattn=context, **y)


@pytest.mark.parametrize("make", [lambda: make_model(2), make_velocity_model, make_sdxl_model])
def test_a_frozen_copy_predicts_for_every_clip_what_comfyui_does(frozen, make):
    model, texts, times = make(), prompts(4, 6), (300, 800)
    image = frozen(model)
    noisy = torch.randn(2 * FRAMES, 4, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        predicted = image(noisy, torch.tensor(times).repeat_interleave(FRAMES), texts)
    for clip, timestep, out, prompt in zip(noisy.split(FRAMES), times, predicted.split(FRAMES), texts, strict=True):
        alpha = diffusion_module.alphas_cumprod("image")[timestep]
        signal, rest = alpha.sqrt(), (1 - alpha).sqrt()
        clean = signal * clip - rest * out if image.predicts_velocity else (clip - rest * out) / signal
        torch.testing.assert_close(clean, comfyuis_clean(model, clip, timestep, prompt), rtol=1e-4, atol=1e-4)


def sampled_as(kind: str, zsnr: bool = False) -> Any:
    """By ComfyUI's ModelSamplingDiscrete."""
    return comfy_extras.nodes_model_advanced.ModelSamplingDiscrete().patch(make_model(2), kind, zsnr)[0]


def test_a_node_decides_what_the_model_predicts(frozen):
    assert frozen(sampled_as("v_prediction")).predicts_velocity
    assert not frozen(sampled_as("lcm")).predicts_velocity
    with pytest.raises(ValueError, match="predicts neither noise nor velocity"):
        frozen(sampled_as("x0"))


def test_a_checkpoint_of_stable_diffusion_2_is_refused_before_the_training():
    model = make_model(2)
    model.model.model_config.unet_config["context_dim"] = 1024
    with pytest.raises(ValueError, match=r"Stable Diffusion 2 models.*use a checkpoint"):
        start(model)


@pytest.mark.parametrize("family", ["v2", "sdxl"])
def test_clips_are_trained_at_the_noise_that_they_are_sampled_at(family):
    """Also where the MODEL begins with nothing but noise."""
    for zsnr in (False, True):
        model = sampled_as("v_prediction", zsnr)
        trained = getattr(formats, family.upper())
        schedules.set_beta_schedule(model, trained.beta_schedule)
        sigmas = model.get_model_object("model_sampling").sigmas
        alphas = tasks.noise_schedule(model, trained, "family")
        torch.testing.assert_close(alphas, 1 / (1 + sigmas**2), rtol=1e-3, atol=1e-9)
        assert (alphas[-1] < 1e-6) == zsnr


def test_attention_is_pytorchs_whatever_the_user_chose(frozen):
    assert optimized_attention is not attention_pytorch, "ComfyUI takes another one on a CPU"
    noisy, time = torch.randn(FRAMES, 4, HEIGHT, WIDTH), torch.full((FRAMES,), 500)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile:
        image_model = frozen(make_model(2))
        image_model(noisy, time, prompts(77))
    layers = [layer for layer in image_model.module.modules() if isinstance(layer, CrossAttention)]
    called = {event.key: event.count for event in profile.key_averages()}
    assert called["aten::scaled_dot_product_attention"] == len(layers) > 0


class PredictsZeros(torch.nn.Module):
    def forward(self, noisy: Tensor, *_: Any, **__: Any) -> Tensor:
        return torch.zeros_like(noisy)


def clips(count: int = 2, frames: int = FRAMES) -> Any:
    data, generator = data_module, torch.Generator().manual_seed(3)
    latents = [torch.randn(frames, 4, 8, 8, generator=generator) for _ in range(count)]
    prompt = prompts(4)[0]
    return data.EncodedClips([data.MemoryClip(clip, prompt) for clip in latents], frames)


def losses_of(task: Any, data: Any, processes: Any = None, **options: Any) -> Any:
    motion = motion_module
    processes = processes or processes_module.OneProcess()
    objective = motion.MotionOptions(**options)
    return motion.MotionLoss(task.unet, task.alphas, objective).steps(data, processes)


@pytest.mark.parametrize("predicts_velocity", [False, True])
def test_the_loss_is_the_error_of_what_the_model_predicts(predicts_velocity):
    motion, diffusion, data = motion_module, diffusion_module, clips()
    alphas, options = diffusion.alphas_cumprod("image"), motion.MotionOptions()
    image = frozen_unet.FrozenUNet(PredictsZeros(), predicts_velocity=predicts_velocity)
    one = processes_module.OneProcess()
    item = next(iter(data.stream(0)))
    drawn = motion.draw(item, options, None)
    alpha = alphas[drawn.time]
    velocity = alpha.sqrt() * drawn.noise - (1 - alpha).sqrt() * item.latents
    expected = alpha * velocity.square().mean() if predicts_velocity else drawn.noise.square().mean()
    losses = motion.MotionLoss(image, alphas, options).steps(data, one)
    torch.testing.assert_close(next(iter(next(losses(0)))), expected)


def test_processes_share_the_items_of_a_step():
    """Each of two takes every other one, so together they learn what one process does with twice the batch."""
    motion, processes = motion_module, processes_module
    image, data = frozen_unet.FrozenUNet(PredictsZeros()), clips(4)
    alphas = diffusion_module.alphas_cumprod("image")

    def steps(index: int, count: int, batch: int, first: int = 0) -> list[float]:
        share = processes.OneProcess()
        share.index, share.count = index, count
        options = motion.MotionOptions(batch=batch)
        losses = motion.MotionLoss(image, alphas, options).steps(data, share)
        return [next(iter(step)).item() for step in islice(losses(first), 4 - first)]

    a, b, together = steps(0, 2, 1), steps(1, 2, 1), steps(0, 1, 2)
    assert [(x + y) / 2 for x, y in zip(a, b, strict=True)] == pytest.approx(together)
    assert steps(1, 2, 1, first=2) == b[2:]


def start(model: Any, motion: Any = None, seed: int = 0) -> Any:
    return tasks.start_from(model, motion, tasks.TaskOptions(positions=16, seed=seed))


def gradients(model: Any, motion: Any, recompute: bool = False, **objective: Any) -> dict[str, Tensor]:
    dtype = motion_module.MotionOptions(**objective).dtype
    options = tasks.TaskOptions(dtype=dtype, recompute=recompute)
    with tasks.module_task(model, motion, options) as task:
        for parameter in task.parameters.values():
            parameter.requires_grad_(True)
        for loss in next(losses_of(task, clips(), **objective)(0)):
            loss.backward()
        return {name: p.grad for name, p in task.parameters.items() if p.grad is not None}


def load(folder: Path, family: str) -> Any:
    load_motion(folder, family)
    return loader.load_motion_model(str(folder / f"{family}_1.safetensors"))


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys() and expected
    for key, value in expected.items():
        assert (actual[key] - value).norm() < 1e-4 * value.norm() + 1e-7, key


@pytest.mark.parametrize("family", ["v1", "v2"])
def test_recomputing_gives_every_family_the_same_gradients(tmp_path, family):
    model, motion = make_model(), load(tmp_path, family)
    plain, again = (gradients(model, motion, recompute) for recompute in (False, True))
    assert_close(again, plain)


def test_v1_is_trained_with_the_unets_norms_over_all_frames(tmp_path):
    """As ComfyUI's UNet predicts with Apply AnimateDiff's own context, whose results are diffusers'."""
    model, motion = make_model(), load(tmp_path, "v1")
    noisy, texts = torch.randn(FRAMES, 4, 8, 8), prompts(4)
    first, unet = start(model, motion), unet_module
    with torch.no_grad(), tasks.module_task(model, motion, tasks.TaskOptions(recompute=False)) as task:
        time = torch.full((FRAMES,), 400)
        predicted = task.unet(noisy, time, texts)
        own = model.model.diffusion_model
        norms, slots = unet.unet_norms(own), unet.unet_slots(own)
        with unet.group_norms_over_frames(norms, FRAMES), unet.motion_hooks(slots, first.model, FRAMES):
            expected = own(noisy, time.float(), texts[0].context.expand(FRAMES, -1, -1))
    torch.testing.assert_close(predicted, expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_trains_on_a_cpu_too(tmp_path):
    model, motion = make_model(), load(tmp_path, "v2")
    half, whole = (gradients(model, motion, bf16=bf16) for bf16 in (True, False))
    rounded, exact = (torch.cat([parts[key].flatten() for key in whole]) for parts in (half, whole))
    assert 0 < (rounded - exact).norm() < 0.1 * exact.norm()


def test_a_module_for_sdxl_starts_from_nothing_and_its_file_loads(tmp_path):
    model = make_sdxl_model()
    assert gradients(model, None).keys() == motion_module.weights(start(model).model).keys()
    with tasks.module_task(model, None, tasks.TaskOptions(recompute=False, positions=16)) as task:
        official = DDPMScheduler(beta_start=0.00085, beta_end=0.02, beta_schedule="scaled_linear")
        torch.testing.assert_close(task.alphas, official.alphas_cumprod)
        path = str(tmp_path / "sdxl.safetensors")
        saving.write(task.file(task.parameters), task.notes, path)
    loaded = loader.load_motion_model(path)
    assert loaded.family.name == "AnimateDiff-SDXL" and loaded.config.norm_over_frames
    assert loaded.config.down == tuple((c, c) for c in SDXL_CHANNELS) and loaded.config.pe_length == 16


def test_a_start_from_nothing_comes_from_the_seed():
    model = make_model(2)
    models = [start(model, seed=seed).model.state_dict() for seed in (0, 0, 1)]
    first, again, other = (torch.cat([value.flatten() for value in state.values()]) for state in models)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_domain_adapter_for_sdxl_loads_on_every_attention_layer():
    import comfy.sd

    model, options = make_sdxl_model(), tasks.TaskOptions(lora=lora.LoraOptions(rank=2))
    with tasks.adapter_task(model, None, options) as task:
        file = task.file(task.parameters)
        layers = {key.partition(".lora_")[0] for key in task.parameters}
    altered: Any = comfy.sd.load_lora_for_models(model, None, file, 1.0, 0.0)[0]
    assert {key.removeprefix("diffusion_model.").removesuffix(".weight") for key in altered.patches} == layers


def test_a_lora_is_trained_at_the_scale_that_its_file_has(tmp_path):
    model, motion = make_model(), load(tmp_path, "v2")
    options = tasks.TaskOptions(recompute=False, lora=lora.LoraOptions(rank=4, alpha=2.0))
    path, before = str(tmp_path / "lora.safetensors"), start(model, motion).model.state_dict()
    with tasks.lora_task(model, motion, options) as task:
        for parameter in task.parameters.values():
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(7))
        saving.write(task.file(task.parameters), task.notes, path)
        layers = {key.partition(".lora_")[0] for key in task.parameters}
        trained = {f"{layer}.weight": task.models[1].get_submodule(layer).weight.detach() for layer in layers}
    altered = motion_lora.apply_motion_lora(motion, path, 1.0)
    loaded = saving.float32_copy(altered, CPU).state_dict()
    for key, weight in trained.items():
        assert (weight - before[key]).abs().max() > 0.1
        torch.testing.assert_close(weight, loaded[key], rtol=1e-4, atol=1e-4)


def test_a_debiased_loss_takes_the_anchor_that_was_drawn():
    motion, data = motion_module, clips()
    options, alphas = motion.MotionOptions(appearance_debiased=True), torch.full((1000,), 0.5)
    image, one = frozen_unet.FrozenUNet(PredictsZeros()), processes_module.OneProcess()
    losses = motion.MotionLoss(image, alphas, options).steps(data, one)(0)
    anchors = set()
    for item, step in zip(islice(data.stream(0), 8), losses, strict=False):
        drawn = motion.draw(item, options, None)
        anchors.add(drawn.anchor % FRAMES)
        change = 2**0.5 * drawn.noise - drawn.noise[drawn.anchor % FRAMES]
        torch.testing.assert_close(next(iter(step)), drawn.noise.square().mean() + change.square().mean())
    assert anchors == {0, 1, 2}
