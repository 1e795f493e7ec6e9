"""Touches comfy. Other nodes in a clip's run: what they keep of one UNet call, which second model they bring, and what
they read of the shared model before it is loaded."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Iterator
from functools import partial
from traceback import walk_stack
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import comfy.utils
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP as Wrapper
from comfy.samplers import CFGGuider

from .patchers import KEY

if TYPE_CHECKING:
    from comfy.model_base import BaseModel

SAMPLING = "model_sampling"
OF_A_CALL = (Wrapper.APPLY_MODEL, Wrapper.DIFFUSION_MODEL)
OF_A_STEP = (Wrapper.PREDICT_NOISE, Wrapper.SAMPLER_SAMPLE, Wrapper.OUTER_SAMPLE)
CHANGES = {"append", "extend", "update", "setdefault", "add", "insert"}


def check_calls(model: ModelPatcher, model_options: dict[str, Any]) -> None:
    """Raise ValueError if a node keeps something of one UNet call for the whole step, which windows make of several.

    Self-Attention Guidance is one: what its attention patch sees, its function after CFG needs of all frames. TGate is
    another: it replaces the forward of the UNet's blocks by one that shows in later calls what an earlier one gave.
    """
    options = model_options.get("transformer_options", {})
    wrappers = options.get("wrappers", {})
    in_calls = [options.get(key) for key in ("patches", "patches_replace")]
    in_calls += [model_options.get("model_function_wrapper"), *(wrappers.get(kind) for kind in OF_A_CALL)]
    in_steps = [value for key, value in model_options.items() if key.startswith("sampler_")]
    in_steps += [wrappers.get(kind) for kind in OF_A_STEP]
    packs = {function.__module__ for function in functions([in_calls, in_steps])}
    # Of the packs in this run: a replaced forward stays on the shared model after its node is gone.
    replaced = [function for function in forwards(model) if function.__module__ in packs]
    later = (*functions(in_steps), *replaced)
    shared = {id(place) for function in later for place in places(function).values()}
    for function in (*functions(in_calls), *replaced):
        if any(id(place) in shared for name, place in places(function).items() if writes(function, name)):
            raise ValueError(
                f"{node_of(function)} keeps what it sees in one call of the UNet, but the windows divide each step "
                'into several: set "within" of Sliding Context to "motion module", or remove that node.'
            )


def check_detours(model_options: dict[str, Any]) -> None:
    """Raise ValueError if a node calls the UNet itself instead of through ComfyUI, as DeepCache does."""
    for function in functions(model_options.get("model_function_wrapper")):
        raise ValueError(f"{node_of(function)} calls the UNet past the motion module, so nothing moves: remove it.")


def forwards(model: ModelPatcher) -> Iterator[FunctionType | MethodType]:
    """Yield the functions that nodes have put in the place of a forward of the UNet's modules."""
    for module in model.model.modules():
        yield from functions([vars(module).get(name) for name in ("forward", "_forward")])


def functions(value: Any) -> Iterator[FunctionType | MethodType]:
    """Yield every Python function in nested dicts and lists."""
    for part in parts(value):
        if isinstance(part, partial):
            yield from functions(part.func)
        elif isinstance(part, FunctionType | MethodType):
            yield part
        elif callable(part) and isinstance(call := getattr(part, "__call__", None), MethodType):  # noqa: B004
            yield call


def parts(value: Any) -> Iterator[Any]:
    """Yield what nested dicts and lists hold, or the value itself if it is neither."""
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from parts(part)
    else:
        yield value


def places(function: FunctionType | MethodType) -> dict[str, Any]:
    """Return, by name, where a function can keep something: the cells of outer variables, and its object."""
    plain = function.__func__ if isinstance(function, MethodType) else function
    cells = dict(zip(plain.__code__.co_freevars, plain.__closure__ or (), strict=True))
    return cells | ({"self": function.__self__} if isinstance(function, MethodType) else {})


def writes(function: FunctionType | MethodType, name: str) -> bool:
    """Return whether a function binds the variable `name` anew, or changes what it or an attribute of it holds."""
    loaded: list[Any] = [None] * 3
    attribute = name == "self"  # an object's lists and dicts are its attributes
    for entry in dis.get_instructions(function):
        if entry.opname == "STORE_DEREF" and entry.argval == name:
            return True
        if entry.opname == "STORE_ATTR" and name == loaded[-1]:
            return True
        if entry.opname == "STORE_SUBSCR" and name == loaded[-2 - attribute]:
            return True
        if entry.argval in CHANGES and name == loaded[-1 - attribute]:
            return True
        if entry.opname.startswith("LOAD"):
            loaded += entry.argval if isinstance(entry.argval, tuple) else [entry.argval]
    return False


def node_of(function: FunctionType | MethodType) -> str:
    """Return the name on screen of the node whose code a function is, or the function's own."""
    module: Any = inspect.getmodule(function)
    owner = function.__qualname__.partition(".")[0]
    schema = getattr(getattr(module, owner, None), "GET_SCHEMA", None)
    names = getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", {})
    return (schema().display_name if schema else names.get(owner)) or owner


def plain_models(guider: CFGGuider) -> tuple[BaseModel, ...]:
    """Return the models that a guider samples beside its own and that stay without motion; see `stays_plain`."""
    seconds = (value for value in parts(vars(guider)) if isinstance(value, ModelPatcher))
    return tuple(second.model for second in seconds if stays_plain(second, guider))


def check_second(executor, model: ModelPatcher, noise_shape: list[int], *args: Any, **kwargs: Any):
    """Wrap the preparation of a MODEL, which a guider may sample with the wrappers of another; see `stays_plain`."""
    objects = (frame.f_locals.get("self") for frame, _ in walk_stack(None))
    guider = next((value for value in objects if isinstance(value, CFGGuider)), None)
    if guider is not None and noise_shape[0] > 1:
        stays_plain(model, guider)
    return executor(model, noise_shape, *args, **kwargs)


def stays_plain(second: ModelPatcher, guider: CFGGuider) -> bool:
    """Return whether a MODEL is to stay without motion where the guider's first one has some.

    ValueError if it is animated in another way than the first, or if only its options could tell it from the first.
    """
    first = guider.model_patcher
    if second is first or animation(second) == animation(first):
        return False
    if animation(second)[0] or second.is_clone(first):
        raise ValueError(
            f"{type(guider).__name__} samples both of its models with what is set on the first: connect both to the "
            "same Apply AnimateDiff and Sliding Context, or use another checkpoint without motion as the second."
        )
    return True


def animation(model: ModelPatcher) -> tuple[list[Any], Any]:
    """Return what animates a MODEL, for comparison: its motion models with their settings, and its windows."""
    uses = [wrapper.__self__ for kind in own(model.wrappers.get(Wrapper.APPLY_MODEL, {})).values() for wrapper in kind]
    return [(use.motion, use.settings) for use in uses], model.model_options.get("context_handler")


def run_once(wrappers: dict[str, dict[Any, list[Any]]]) -> None:
    """Let each of the pack's wrappers run once, however many models of a guider have it."""
    for by_key in wrappers.values():
        by_key |= {key: list(dict.fromkeys(functions)) for key, functions in own(by_key).items()}


def own(by_key: dict[Any, list[Any]]) -> dict[str, list[Any]]:
    """Return the pack's entries of wrappers by their keys."""
    return {key: wrappers for key, wrappers in by_key.items() if str(key).startswith(KEY)}


def lend_sampling(model: ModelPatcher, *_: Any) -> None:
    """Put a MODEL's own noise schedule on the model that it shares with its clones, before the run loads it.

    Nodes such as EasyCache read it there, and would otherwise see that of the run before.
    """
    shared = comfy.utils.set_attr(model.model, SAMPLING, model.get_model_object(SAMPLING))
    model.object_patches_backup.setdefault(SAMPLING, shared)


def return_sampling(model: ModelPatcher) -> None:
    """Take a MODEL's noise schedule off again, so that runs of other clones do not read it."""
    if SAMPLING in model.object_patches_backup:
        comfy.utils.set_attr(model.model, SAMPLING, model.object_patches_backup.pop(SAMPLING))
