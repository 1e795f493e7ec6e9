"""Windows on several devices, for which two CPUs stand in: ComfyUI's own copies of the model, its threads, its node."""

from __future__ import annotations

import threading

import comfy.model_management
import pytest
import torch
from comfy_support import animate, conditioning, load_motion, sample
from node_support import CHANNELS, error, make_controlnet, small_model

from sampling.clips import apply_sliding_context
from sampling.context_windows import MOTION, ContextOptions
from sampling.devices import shares_of

multigpu = pytest.importorskip("comfy.multigpu", reason="this ComfyUI knows one GPU alone")
DEVICES = [torch.device("cpu"), torch.device("cpu", 1)]


@pytest.fixture(scope="module")
def animated(tmp_path_factory):
    model = small_model()
    model.cached_patcher_init = (lambda **_: small_model(), ())
    return animate(model, load_motion(tmp_path_factory.mktemp("models"), channels=CHANNELS))


@pytest.fixture
def on_two(monkeypatch):
    """ComfyUI's MultiGPU node as a function."""
    monkeypatch.setattr(comfy.model_management, "get_all_torch_devices", lambda **_: DEVICES)
    monkeypatch.setattr(comfy.model_management, "set_torch_device", lambda _: None)
    return lambda model: multigpu.create_multigpu_deepclones(model, 2)


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
    shares = shares_of(range(9), DEVICES, {fast: {"relative_speed": 2.0}, slow: {"relative_speed": 1.0}})
    assert [len(shares[slow]), len(shares[fast])] == [3, 6]
