"""Windows on several devices, for which two CPUs stand in: ComfyUI's own copies of the model, its threads, its node."""

from __future__ import annotations

import threading
from dataclasses import replace

import comfy.model_management
import pytest
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_support import animate, conditioning, load_motion, sample
from node_support import CHANNELS, error, make_controlnet, small_model

from animatediff_native.sampling.clips import apply_sliding_context
from animatediff_native.sampling.context_windows import MOTION, ContextOptions
from animatediff_native.sampling.devices import share_out

multigpu = pytest.importorskip("comfy.multigpu", reason="this ComfyUI knows one GPU alone")
DEVICES = [torch.device("cpu"), torch.device("cpu", 1)]


@pytest.fixture(scope="module")
def model():
    model = small_model()
    model.cached_patcher_init = (lambda **_: small_model(), ())
    return model


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    return load_motion(tmp_path_factory.mktemp("models"), channels=CHANNELS)


@pytest.fixture(scope="module")
def animated(model, motion):
    return animate(model, motion)


@pytest.fixture(scope="module")
def altered(motion):
    """The motion module with other weights, as a motion LoRA gives it."""
    patcher, generator = motion.patcher.clone(), torch.Generator().manual_seed(4)
    weights = {key: t for key, t in patcher.model.state_dict().items() if key.endswith(".to_out.0.weight")}
    patcher.add_patches({key: ("diff", (torch.randn(t.shape, generator=generator),)) for key, t in weights.items()})
    return replace(motion, patcher=patcher)


@pytest.fixture
def on_two(monkeypatch):
    """ComfyUI's MultiGPU node as a function."""
    monkeypatch.setattr(comfy.model_management, "get_all_torch_devices", lambda **_: DEVICES)
    monkeypatch.setattr(comfy.model_management, "set_torch_device", lambda _: None)

    def put(model):
        loaded = comfy.model_management.current_loaded_models
        loaded[:] = [
            entry for entry in loaded if entry.model is not None
        ]  # the node fails at those of models long gone
        return multigpu.create_multigpu_deepclones(model, 2, reuse_loaded=True)

    return put


def in_windows(model, **options):
    return apply_sliding_context(model, ContextOptions(6, 2, **options))


@pytest.mark.parametrize("options", [{}, {"at_once": 2}, {"schedule": "uniform"}, {"within": MOTION}])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_two_devices_give_what_one_gives(animated, on_two, options, cfg):
    model = in_windows(animated, **options)
    alone = sample(model, frames=16, cfg=cfg)
    assert error(sample(on_two(model), frames=16, cfg=cfg), alone) < 1e-4


def test_both_devices_work_with_weights_of_their_own(animated, on_two):
    seen = {}
    model = on_two(in_windows(animated))

    def note(executor, *args, **kwargs):
        seen[threading.get_ident()] = executor.class_obj
        return executor(*args, **kwargs)

    for patcher in (model, *model.get_additional_models_with_key("multigpu")):
        patcher.add_wrapper_with_key("apply_model", "test", note)
    sample(model, frames=16, steps=1, cfg=1.0)
    assert len(seen) == 2, "threads"
    assert len(set(map(id, seen.values()))) == 2, "models"


def test_what_a_module_is_altered_with_reaches_both_devices_in_every_run(model, motion, altered, on_two):
    """ComfyUI keeps the weights of an earlier run on the other device."""
    alone = {}
    for module in (altered, motion, altered):
        clip = in_windows(animate(model, module))
        alone[module] = sample(clip, frames=16, steps=1)
        assert error(sample(on_two(clip), frames=16, steps=1), alone[module]) < 1e-4
    assert error(alone[altered], alone[motion]) > 1e-2


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 0), (1,)])
def test_modules_behind_the_node_have_weights_of_their_own_on_both_devices(model, motion, altered, on_two, order):
    def chain(clip):
        for place in order:
            clip = animate(clip, (motion, altered)[place], strength=0.5)
        return in_windows(clip)

    clip = chain(on_two(on_two(animate(model, motion))))
    alone = sample(chain(animate(model, motion)), frames=16, steps=1)
    assert error(sample(clip, frames=16, steps=1), alone) < 1e-4
    (other,) = clip.get_additional_models_with_key("multigpu")
    used = [{id(patcher.model) for patcher in patched.get_additional_models()} for patched in (clip, other)]
    assert other.additional_models.keys() == clip.additional_models.keys() - {"multigpu"}
    assert not used[0] & used[1]


def test_patches_of_other_packs_are_moved_to_each_device(animated, on_two):
    class Patch:
        def __init__(self, device=DEVICES[0]):
            self.device = device

        def to(self, device):
            return Patch(device) if isinstance(device, torch.device) else self

        def __call__(self, q, k, v, options):
            seen.append((self.device, options.get("multigpu_thread_device")))
            return q, k, v

    seen, model = [], in_windows(animated)
    model.set_model_attn1_patch(Patch())
    sample(on_two(model), frames=16, steps=2, cfg=1.0)
    assert {of_patch == of_thread for of_patch, of_thread in seen} == {True}
    assert {device for device, _ in seen} == set(DEVICES)


def test_devices_do_not_share_a_compiled_unet(animated, on_two):
    """ComfyUI's torch.compile would put that of the first into both."""
    unets, model = set(), in_windows(animated)
    set_torch_compile_wrapper(model, backend="eager")

    def note(executor, *args, **kwargs):
        unets.add(executor.class_obj)
        return executor(*args, **kwargs)

    model.add_wrapper_with_key("diffusion_model", "test", note)
    sample(on_two(model), frames=16, steps=1)
    assert len(unets) == 2


def test_each_device_has_a_controlnet_of_its_own(animated, on_two):
    hints = 20 * torch.rand(16, 3, 64, 64, generator=torch.Generator().manual_seed(2))

    def steered() -> list:
        control = make_controlnet().set_cond_hint(hints, 0.7)
        return [[conditioning(5)[0][0], {"control": control, "control_apply_to_uncond": True}]]

    model = in_windows(animated)
    alone = sample(model, frames=16, positive=steered())
    assert error(sample(on_two(model), frames=16, positive=steered()), alone) < 1e-4
    assert error(sample(model, frames=16), alone) > 1e-2, "the control has to steer"


def test_an_error_on_the_other_device_reaches_the_user_and_the_next_run_works(animated, on_two):
    model = on_two(in_windows(animated))
    before = sample(model, frames=16)
    failing = model.clone()

    def fail(executor, *args, **kwargs):
        if executor.class_obj is not model.model:
            raise RuntimeError("out of memory")
        return executor(*args, **kwargs)

    failing.add_wrapper_with_key("apply_model", "test", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        sample(on_two(failing), frames=16)
    assert torch.equal(sample(model, frames=16), before)


def test_a_faster_device_gets_more_windows():
    slow, fast = DEVICES
    shares = share_out(range(9), DEVICES, {fast: {"relative_speed": 2.0}, slow: {"relative_speed": 1.0}})
    assert [len(shares[slow]), len(shares[fast])] == [3, 6]
