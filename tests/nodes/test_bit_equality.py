"""A run that failed half-way leaves nothing behind: the next one is bit-equal to that of a fresh process."""

from __future__ import annotations

import comfy.model_management
import pytest
import torch
from node_support import FAILURES, ksampler, run, small_model


def failing(model, action):
    """A clone whose second step does `action` in the middle of the UNet."""
    calls = []

    def patch(h, options):
        calls.append(options["sigmas"][0].item())
        if len(set(calls)) == 2 and options["block"][0] == "output":
            action()
        return h

    model = model.clone()
    model.set_model_attn2_output_patch(patch)
    return model


@pytest.mark.parametrize("stack", [("v1",), ("v1", "v2", "v1")], ids=" ".join)
@pytest.mark.parametrize("failure", FAILURES)
def test_the_next_run_after_a_failure_is_that_of_a_fresh_process(adn, apply, load_motion, failure, stack):
    """v1 in windows, which has the most to clean up: norms over frames and the windows' state. In a stack each module
    has a strength of its own that changes from frame to frame."""

    def fresh():
        model = animated = small_model()
        for seed, family in enumerate(stack):
            curve = run(adn["ADN_MotionCurve"], keyframes=f"0: {seed}, 5: 1")
            strength = run(adn["ADN_MotionStrength"], strength=curve)
            animated = apply(animated, load_motion(family, seed), motion_strength=strength)
        return model, run(adn["ADN_SlidingContext"], model=animated, context_length=4, context_overlap=2)

    action, expected = FAILURES[failure]
    never_run, never_failed = fresh()
    model, animated = fresh()
    with pytest.raises(expected):
        ksampler(failing(animated, action))
    if failure == "out of memory":
        comfy.model_management.unload_all_models()  # as ComfyUI does then
    assert torch.equal(ksampler(animated), ksampler(never_failed))
    assert torch.equal(ksampler(model), ksampler(never_run))
