"""Beside other packs in one server: what both do to a clip is in it, in whichever order their nodes stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import folder_paths
import pytest
import safetensors.torch
from server_support import NODES, ROOT, miniature_server, node
from torch import Tensor

from animatediff_native.__init__ import register_folder
from animatediff_native.tools.comfy_app import PACKS
from animatediff_native.tools.comfy_server import ComfyServer, ServerError
from animatediff_native.tools.workflow import named_widgets

OTHERS = {path.name: path for path in (ROOT / "tests" / "packs").iterdir() if path.is_dir()}
STEPS, WINDOWS = 2, 2  # of 6 frames: 0 to 3 and 2 to 5
CALLS = {  # of the other pack in a clip; None where it is a matter of the UNet's layers
    "outer_sample": 1,
    "sampler_sample": 1,
    "predict_noise": STEPS,
    "calc_cond_batch": STEPS * WINDOWS,
    "apply_model": STEPS * WINDOWS,
    "diffusion_model": STEPS * WINDOWS,
    "unet_function_wrapper": STEPS * WINDOWS,
    "timestep_embed": None,
    "attn1_patch": None,
    "attn2_replace": STEPS * WINDOWS,
    "sampler_cfg_function": STEPS,
}

Step = tuple[str, dict[str, Any]]  # a node that takes a MODEL and gives one, and its inputs
APPLY: Step = ("ADN_ApplyAnimateDiff", {"motion_module": ["motion", 0]})
SLIDING: Step = ("ADN_SlidingContext", {"context_length": 4, "context_overlap": 2})


def effect(where: str, strength: float = 1.0) -> Step:
    return ("Other_Effect", {"where": where, "strength": strength})


def other_windows(length: int) -> Step:
    return ("Other_Windows", {"length": length, "overlap": 0})


ORDERS = {
    "before": lambda other: (other, APPLY, SLIDING),
    "between": lambda other: (APPLY, other, SLIDING),
    "after": lambda other: (APPLY, SLIDING, other),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[ComfyServer]:
    base = tmp_path_factory.mktemp("comfyui")
    for folder in ("animatediff_models", "other_motion"):  # the latter is the other pack's
        (base / "models" / folder).mkdir(parents=True)
        for name in ("module.safetensors", "module.motion", "notes.txt"):
            (base / "models" / folder / f"{folder}_{name}").touch()
    with miniature_server(base, PACKS | OTHERS, ("--cache-classic",)) as running:
        yield running


@pytest.fixture(scope="module")
def sample(server):
    """Sample a clip through a chain of nodes: the latents (f, c, h, w), and the calls that the other pack logged."""
    schemas = server.object_info()
    known: dict[str, tuple[Tensor, list[str]]] = {}

    def sample(*chain: Step, frames: int = 6) -> tuple[Tensor, list[str]]:
        if (key := f"{chain} {frames}") not in known:
            seen = len(calls(server))
            (file,) = server.output_files(server.submit(graph(schemas, chain, frames)))
            latents = safetensors.torch.load_file(file)["latent_tensor"]
            known[key] = latents, calls(server)[seen:]
        return known[key]

    return sample


def graph(schemas: dict[str, Any], chain: tuple[Step, ...], frames: int) -> dict[str, Any]:
    def with_defaults(class_type: str, **inputs: Any) -> dict[str, Any]:
        return node(class_type, **dict(named_widgets(schemas[class_type]["input"], [])) | inputs)

    prompt = {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name="miniature.safetensors"),
        "motion": with_defaults("ADN_LoadMotionModule", motion_module="miniature_motion.safetensors"),
        "star": node("CLIPTextEncode", clip=["checkpoint", 1], text="a red star"),
        "nothing": node("CLIPTextEncode", clip=["checkpoint", 1], text=""),
        "latent": node("EmptyLatentImage", width=64, height=64, batch_size=frames),
    }
    last = "checkpoint"
    for place, (class_type, inputs) in enumerate(chain):
        prompt[f"step {place}"] = with_defaults(class_type, model=[last, 0], **inputs)
        last = f"step {place}"
    conditionings = {"positive": ["star", 0], "negative": ["nothing", 0], "latent_image": ["latent", 0]}
    settings = {"seed": 1, "steps": STEPS, "cfg": 2.5, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    prompt["sample"] = node("KSampler", model=[last, 0], **conditionings, **settings)
    prompt["save"] = node("SaveLatent", samples=["sample", 0], filename_prefix="clip")
    return prompt


def calls(server: ComfyServer) -> list[str]:
    return re.findall(r"Other pack: (\w+)", server.log_tail(lines=1000000))


def difference(a: Tensor, b: Tensor) -> float:
    """Relative L2 distance."""
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("where", CALLS)
def test_what_both_packs_do_is_in_the_clip_in_whichever_order(sample, where):
    other_alone, counted = sample(effect(where), SLIDING)
    if not counted:
        pytest.skip("this ComfyUI does not ask other packs there")
    ours_alone, _ = sample(APPLY, SLIDING)
    for order in ORDERS.values():
        clip, counted_beside_ours = sample(*order(effect(where)))
        assert counted_beside_ours == counted
        assert len(counted) == CALLS[where] or CALLS[where] is None
        assert difference(clip, ours_alone) > 1e-3
        assert difference(clip, other_alone) > 1e-3
        assert difference(clip, sample(*ORDERS["before"](effect(where)))[0]) < 1e-6


@pytest.mark.parametrize("where", [where for where in CALLS if where != "sampler_cfg_function"])  # which rounds
@pytest.mark.parametrize("order", ORDERS)
def test_another_pack_that_changes_nothing_leaves_the_clip_to_the_bit(sample, where, order):
    clip, _ = sample(*ORDERS[order](effect(where, strength=0.0)))
    assert clip.equal(sample(APPLY, SLIDING)[0])


def test_another_packs_model_sampling_keeps_the_schedule_if_it_comes_before(sample):
    """After Apply AnimateDiff it is the last that sets the noise schedule, as the README's troubleshooting says."""
    other, own_schedule = effect("model_sampling"), (APPLY[0], {**APPLY[1], "beta_schedule": "keep the model's own"})
    before, counted = sample(other, APPLY)
    assert len(counted) == STEPS
    assert difference(before, sample(APPLY)[0]) > 1e-3
    assert sample(effect("model_sampling", strength=0.0), APPLY)[0].equal(sample(APPLY)[0])
    assert sample(APPLY, other)[0].equal(sample(other, own_schedule)[0])
    assert difference(sample(APPLY, other)[0], before) > 1e-3


def test_tiles_of_another_pack_move_one_by_one_and_at_once_alike(sample):
    for chain in ((APPLY,), (APPLY, SLIDING)):
        one_by_one, _ = sample(*chain, effect("tile_by_tile"))
        at_once, counted = sample(*chain, effect("tiles_at_once"))
        assert counted
        assert difference(at_once, one_by_one) < 1e-5


def test_a_pack_that_divides_the_clip_unseen_is_an_error(sample):
    for chain in ((APPLY,), (APPLY, SLIDING)):
        with pytest.raises(ServerError, match=r"with [23] frames where [46] belong together"):
            sample(*chain, effect("divide_batch"))


# Context windows: the last node of the graph that sets them is the one that is asked


def test_sliding_context_after_another_packs_windows_replaces_them(sample):
    for chain in ((other_windows(4), APPLY, SLIDING), (APPLY, other_windows(4), SLIDING)):
        clip, counted = sample(*chain)
        assert not counted
        assert clip.equal(sample(APPLY, SLIDING)[0])


def test_another_packs_windows_after_sliding_context_replace_it(sample):
    clip, counted = sample(APPLY, SLIDING, other_windows(4))
    assert counted == ["context_handler"] * STEPS
    assert clip.equal(sample(APPLY, other_windows(4))[0])
    assert clip.equal(sample(other_windows(4), APPLY)[0])
    assert difference(clip, sample(other_windows(4))[0]) > 1e-3


def test_a_long_clip_is_left_to_another_packs_windows(sample):
    """Ours apply by themselves only where there are none."""
    clip, counted = sample(APPLY, other_windows(16), frames=40)
    assert counted == ["context_handler"] * STEPS
    assert len(clip) == 40
    assert clip.isfinite().all()


def test_another_packs_windows_that_the_motion_module_cannot_hold_are_an_error(sample):
    with pytest.raises(ServerError, match=r"4[01] frames at once are more than the 32 that miniature_motion"):
        sample(APPLY, other_windows(40), frames=48)


# Loading


def test_a_pack_that_fails_to_load_fails_alone(server):
    log = server.log_tail(lines=1000000)
    assert re.findall(r"seconds \(IMPORT FAILED\): .*?(\w+)$", log, re.MULTILINE) == ["broken_pack"]
    assert {*NODES, "Other_Effect"} <= set(server.object_info())


def test_a_folder_that_another_pack_registers_too_lists_the_files_of_both(server):
    """Motion modules lie in our folder and in the other pack's, and its kind of file is listed too."""
    kind, options = server.object_info()["ADN_LoadMotionModule"]["input"]["required"]["motion_module"]
    choices = kind if isinstance(kind, list) else options["options"]
    folders = ("animatediff_models", "other_motion")
    expected = {f"{folder}_module{suffix}" for folder in folders for suffix in (".safetensors", ".motion")}
    assert set(choices) == {*expected, "miniature_motion.safetensors"}


@pytest.mark.parametrize("extensions", [{".motion"}, [".motion"], (".motion",)], ids=["set", "list", "tuple"])
def test_the_kinds_of_file_that_another_pack_registered_stay_its_own(monkeypatch, extensions):
    """It may have them in a list, or use the same set for folders of its own."""
    as_it_was = [*extensions]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "animatediff_models", ([], extensions))
    register_folder("animatediff_models")
    assert [*extensions] == as_it_was
    _, kinds = folder_paths.folder_names_and_paths["animatediff_models"]
    assert kinds == {".motion", *folder_paths.supported_pt_extensions}
