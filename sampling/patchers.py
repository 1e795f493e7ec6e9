"""Touches comfy. The motion models that a MODEL carries: a patcher for each use, and its copies on other devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from comfy.model_patcher import ModelPatcher

KEY = "animatediff_native"
MATCH_CLONES = "on_match_multigpu_clones"  # CallbacksMP has it where ComfyUI knows several GPUs


def add_motion_model(model: ModelPatcher, patcher: ModelPatcher) -> str:
    """Let `model`, a clone, carry one more motion model and return the key of this use."""
    key = f"{KEY}.{sum(name.startswith(KEY) for name in model.additional_models)}"
    carried = [patcher for patchers in model.additional_models.values() for patcher in patchers]
    model.set_additional_models(key, [clone_for_use(patcher, carried)])
    model.remove_callbacks_with_key(MATCH_CLONES, KEY)
    model.add_callback_with_key(MATCH_CLONES, KEY, match_clone)
    return key


def clone_for_use(patcher: ModelPatcher, carried: list[ModelPatcher]) -> ModelPatcher:
    """Return a clone for one more use on a MODEL that carries other patchers.

    It shares the module's weights, unless another use on this MODEL has other LoRAs or merges on them: both are needed
    at once, so the file is then read a second time.
    """
    if not any(patcher.is_clone(other) and not patcher.clone_has_same_weights(other) for other in carried):
        return patcher.clone()
    init: Any = patcher.cached_patcher_init
    fresh = init[0](*init[1])
    fresh.patches = {key: patches[:] for key, patches in patcher.patches.items()}
    fresh.patches_uuid = patcher.patches_uuid
    return fresh


def match_clone(model: ModelPatcher, clone: ModelPatcher) -> None:
    """Give the `clone` of a MODEL on another device its motion models, with the LoRAs and merges of this run.

    ComfyUI has put their weights there, but leaves them as an earlier run had altered them, and keeps those that
    several keys share under the first.
    """
    patcher_by_uuid = {patcher.clone_base_uuid: patcher for patcher in clone.get_additional_models()}
    for key in [key for key in clone.additional_models if key.startswith(KEY)]:
        clone.remove_additional_models(key)
    for key in [key for key in model.additional_models if key.startswith(KEY)]:
        (patcher,) = model.get_additional_models_with_key(key)
        on_device = patcher_by_uuid[patcher.clone_base_uuid]
        copy = patcher.clone(model_override=on_device.get_clone_model_override())
        copy.load_device, copy.hook_backup = on_device.load_device, on_device.hook_backup
        clone.set_additional_models(key, [copy])


def patcher_on(device: torch.device, model: ModelPatcher, key: str) -> ModelPatcher:
    """Return the motion model under `key` as it is on that device.

    Clones of the MODEL for other devices are made while sampling prepares, and carry patchers of their own.
    """
    main = model.get_additional_models_with_key(key)
    clones = model.get_additional_models_with_key("multigpu")
    on_clones = [patcher for clone in clones for patcher in clone.get_additional_models_with_key(key)]
    return next((patcher for patcher in main + on_clones if patcher.load_device == device), main[0])
