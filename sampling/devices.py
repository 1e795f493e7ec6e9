"""Touches comfy. Calls of the model on several GPUs, where ComfyUI's MultiGPU node has put copies of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

Call = TypeVar("Call")
# (call, model, conds, x, timestep, model_options) -> for each of conds a tensor
Evaluate = Callable[[Any, Any, Any, Tensor, Tensor, dict[str, Any]], list[Tensor]]


def spread_over_devices(
    evaluate: Evaluate,
    calls: Sequence[Call],
    model: Any,
    conds: list[list[dict[str, Any]] | None],
    x: Tensor,
    timestep: Tensor,
    model_options: dict[str, Any],
) -> Iterator[tuple[Call, list[Tensor]]]:
    """Yield what `evaluate` gives for each of `calls`, in their order and on the device of x.

    ComfyUI itself shares out the prompts of one call, of which there are seldom more than two.
    """
    clones, pool = model_options.get("multigpu_clones"), model_options.get("multigpu_thread_pool")
    if not clones or pool is None or len(calls) < 2:
        for call in calls:
            yield call, evaluate(call, model, conds, x, timestep, model_options)
        return
    advance_keyframes(model, conds, timestep=timestep, model_options=model_options)
    shares = share_out(calls, list(clones), model_options.get("multigpu_options", {}))
    for device, share in shares.items():
        model_there = clones[device].model
        pool.submit(device, on_device, device, evaluate, share, model_there, conds, x, timestep, model_options)
    results: dict[int, list[Tensor]] = {}
    errors = []
    for device, share in shares.items():  # all of them, so that none is left in the pool
        outs, error = pool.get_result(device)
        errors += [error] if error is not None else []
        results |= zip(map(id, share), outs or (), strict=error is None)
    if errors:
        raise errors[0]
    yield from ((call, results[id(call)]) for call in calls)


def share_out(
    calls: Sequence[Call], devices: Sequence[torch.device], options: dict[torch.device, dict[str, Any]]
) -> dict[torch.device, list[Call]]:
    """Return the calls of each device: every call goes to the device that would then be done first."""
    speed = {device: options.get(device, {}).get("relative_speed", 1.0) for device in devices}
    shares: dict[torch.device, list[Call]] = {device: [] for device in devices}
    for call in calls:
        shares[min(devices, key=lambda device: (len(shares[device]) + 1) / speed[device])].append(call)
    return {device: share for device, share in shares.items() if share}


def advance_keyframes(model: Any, conds: Iterable[Any], timestep: Tensor, model_options: dict[str, Any]) -> None:
    """Move hooks on to this step's keyframe before devices run side by side: hooks count for all of them together."""
    for cond in (cond for kind in conds for cond in kind or ()):
        if cond.get("hooks") is not None:
            model.current_patcher.prepare_hook_patches_current_keyframe(timestep, cond["hooks"], model_options)


def on_device(
    device: torch.device,
    evaluate: Evaluate,
    calls: Sequence[Any],
    model: Any,
    conds: list[list[dict[str, Any]] | None],
    x: Tensor,
    timestep: Tensor,
    model_options: dict[str, Any],
) -> list[list[Tensor]]:
    """Evaluate calls in a thread of that device, whose model has to think that it is alone."""
    from comfy.patcher_extension import copy_nested_dicts
    from comfy.samplers import cast_transformer_options

    options: dict[str, Any] = copy_nested_dicts(
        model_options["transformer_options"]
    )  # each thread moves its own patches
    options["multigpu_thread_device"] = device
    options["sample_sigmas"] = options["sample_sigmas"].to(device)
    cast_transformer_options(options, device=device)
    alone = {key: value for key, value in model_options.items() if key != "multigpu_clones"}
    alone["transformer_options"] = options
    conds = [None if kind is None else [moved(cond, device) for cond in kind] for kind in conds]
    with torch.no_grad():
        return [
            [out.to(x.device) for out in evaluate(call, model, conds, x.to(device), timestep.to(device), alone)]
            for call in calls
        ]


def moved(cond: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Return a prompt's dictionary for another device, with the copy of its ControlNet that is there."""
    cond = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in cond.items()}
    if cond.get("control") is not None:
        cond["control"] = cond["control"].get_instance_for_device(device)
    cond["model_conds"] = {key: copy.copy(value) for key, value in cond["model_conds"].items()}
    for value in cond["model_conds"].values():
        if isinstance(getattr(value, "cond", None), Tensor):
            value.cond = value.cond.to(device)
    return cond
