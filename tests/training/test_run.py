"""Whole trainings from a configuration, on the miniature."""

from __future__ import annotations

import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from training_run_support import CHECKPOINT, configuration, drawn_clips, write_config

from animatediff_native.demo.fine_tune import MODULE
from animatediff_native.motion_models.loader import load_motion_model
from animatediff_native.motion_models.lora import apply_motion_lora
from animatediff_native.training import config, processes
from animatediff_native.training import run as runs

pytestmark = pytest.mark.autograd


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    return drawn_clips(tmp_path_factory.mktemp("clips"), 3)


@pytest.fixture
def run(tmp_path, clips):
    """Train with the usual configuration and some changes; the finished file."""

    def train(**changes: Any) -> Path:
        file = write_config(tmp_path / "run.toml", configuration(clips, tmp_path / "out", **changes))
        return runs.train(config.read_config(file), processes.OneProcess())

    return train


ROOT = Path(__file__).resolve().parents[2]


def notes(file: Path) -> dict[str, str]:
    with safe_open(file, "pt") as weights:
        return weights.metadata()


def test_a_motion_lora_loads_says_what_it_is_and_is_shown(run, clips, tmp_path):
    file = run(
        fit={"steps": 3, "learning_rate": 1e-3},
        samples={"prompts": ["a red star"], "size": [64, 64], "steps": 2, "every": 2},
    )
    altered = apply_motion_lora(load_motion_model(str(MODULE)), str(file), 1.0)
    assert len(altered.patcher.patches) == 4 * 2 * len(altered.config.channels_by_name())
    metadata = notes(file)
    assert (metadata["family"], metadata["rank"], metadata["steps"]) == ("AnimateDiff v3", "2", "3")
    assert metadata["base"] == "Stable Diffusion 1.5" and metadata["data"] == clips.name
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"m_000002.safetensors", "m_000002_0.webp", "m_0.webp", "m.png"} <= names


def test_a_motion_module_from_nothing_and_on_from_it(run, tmp_path):
    first = run(train="motion module", name="first", motion_module=None, lora=None)
    assert load_motion_model(str(first)).family.name == "AnimateDiff v3"
    second = run(train="motion module", name="second", motion_module=str(first), lora=None)
    assert notes(second)["sources"] == "first.safetensors"
    v2 = run(train="motion module", name="v2", motion_module=None, lora=None, middle=True, positions=32)
    assert load_motion_model(str(v2)).family.name == "AnimateDiff v2"


def test_a_domain_adapter_is_a_lora_that_comfyui_puts_on_the_image_model(run):
    import comfy.sd
    import comfy.utils

    from animatediff_native.demo.evaluate import Miniature
    from animatediff_native.demo.train import MODELS

    file = run(train="domain adapter", name="adapter", motion_module=None)
    assert set(notes(file)) >= {"rank", "alpha", "steps"}
    miniature = Miniature(MODELS)
    lora = comfy.utils.load_torch_file(str(file))
    altered: Any = comfy.sd.load_lora_for_models(miniature.base, None, lora, 1.0, 0.0)[0]
    unet: Any = miniature.base.model.diffusion_model
    layers = [name for name, _ in unet.named_modules() if name.endswith((".to_q", ".to_k", ".to_v", ".to_out.0"))]
    assert {key.removeprefix("diffusion_model.").removesuffix(".weight") for key in altered.patches} == set(layers)


def test_the_familys_noise_schedule_is_used_unless_another_is_asked_for(run, tmp_path):
    def losses(name: str, **changes: Any) -> list[float]:
        run(name=name, **changes)
        return torch.load(tmp_path / "out" / f"{name}.pt")["losses"]

    family = losses("family")
    assert losses("motion", beta_schedule="motion") == family
    assert losses("image", beta_schedule="image") != family


def test_clips_in_shards_are_encoded_on_the_way(run, clips, tmp_path):
    with tarfile.open(tmp_path / "clips-0.tar", "w") as shard:
        for file in sorted(clips.glob("*.*")):
            shard.add(file, file.name)
    file = run(data={"shards": str(tmp_path / "clips-0.tar"), "frames": 4, "stride": 1, "size": 64})
    assert notes(file)["data"].endswith("clips-0.tar")


def test_a_lora_needs_a_module(run):
    with pytest.raises(
        ValueError, match="motion_module: name the file of the motion module that the LoRA is trained for"
    ):
        run(motion_module=None)


def test_a_lora_is_no_module_to_go_on_from(run, tmp_path):
    lora = run()
    with pytest.raises(ValueError, match=r"m\.safetensors is a motion LoRA, not a motion module"):
        run(train="motion module", name="other", motion_module=str(lora), lora=None)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"samples": {"sampler": "eular"}, "checkpoint": "nowhere"},
            r"samples\.sampler: there is no eular: use one of euler, ",
        ),
        (
            {"samples": {"scheduler": "nromal"}, "checkpoint": "nowhere"},
            r"samples\.scheduler: there is no nromal: use one of .*normal",
        ),
        ({"samples": {"keyframes": ["a.png"]}}, r"samples\.keyframes: there is no file .*a\.png"),
        ({"loras": ["a.safetensors"]}, r"loras: there is no file .*a\.safetensors"),
        ({"data": {"folder": "nowhere"}}, r"data\.folder: there is no folder .*nowhere"),
        ({"checkpoint": str(MODULE)}, r"checkpoint: .* is not a checkpoint that ComfyUI can load"),
    ],
)
def test_names_and_files_are_checked_before_anything_is_loaded(run, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        run(**changes)


def test_what_is_no_lora_of_the_image_model_is_named(run, tmp_path, caplog):
    other = tmp_path / "other.safetensors"
    save_file({f"lora_unet_other_{end}.weight": torch.ones(2, 2) for end in ("up", "down")}, other)
    sentences = {
        run(name="movement"): "is a motion LoRA, and these LoRAs are for the image model: save a motion module with it",
        MODULE: "is a motion module, and these LoRAs are for the image model: name it under motion_module",
        other: "changes nothing of this checkpoint: choose a LoRA for its kind of model",
        CHECKPOINT: "changes nothing of this checkpoint",
    }
    caplog.clear()
    for file, sentence in sentences.items():
        with pytest.raises(ValueError, match=rf"^loras: {file.name} {sentence}"):
            run(loras=[str(file)])
    assert "not loaded" not in caplog.text


def test_what_is_no_vae_is_named(run):
    with pytest.raises(ValueError, match=r"^vae: .* is not a VAE"):
        run(vae=str(MODULE))


def test_the_clips_of_a_state_are_those_of_the_folder(run, clips, tmp_path):
    folder = shutil.copytree(clips, tmp_path / "folder")
    data = {"folder": str(folder), "frames": 4, "stride": 1, "size": 64}
    run(data=data)
    next(folder.glob("*.mp4")).unlink()
    with pytest.raises(ValueError, match=r"The clips are not those of .*m\.pt \(1 removed: .*\.mp4\)"):
        run(data=data)
    run(data=data | {"may_change": True})


def test_a_missing_checkpoint_is_named(run):
    with pytest.raises(ValueError, match=r"checkpoint: there is no file .*nowhere\.safetensors"):
        run(checkpoint="nowhere.safetensors")


def test_a_node_pack_that_comfyui_cannot_load_is_named(run, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "__init__.py").write_text("raise RuntimeError")
    for folder in ("broken", "nowhere"):
        with pytest.raises(ValueError, match=rf"custom_nodes: ComfyUI cannot load \S+{folder}: choose the folder"):
            run(custom_nodes=[str(tmp_path / folder)])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"trian": "motion LoRA"}, r"run\.toml: trian: "),
        (
            {"train": "motion LORA"},
            r"train: input should be 'motion module', 'motion LoRA', 'domain adapter' or 'SparseCtrl'",
        ),
        ({"lora": {"rank": "eight"}}, r"lora\.rank: "),
        ({"fit": {"steps": 3, "learning_rate": 1e-3, "schedule": "linear"}}, r"fit\.schedule: "),
        ({"fit": {"steps": 3}}, r"fit\.learning_rate: field required"),
        ({"objective": {"loss": "huber"}}, r"objective\.loss: "),
        ({"data": {"folder": "a", "size": 100}}, r"data: 'size' is 100, but must be a multiple of 8"),
        ({"data": {"folder": "a", "crop": "left"}}, r"data\.crop: input should be 'centre' or 'random'"),
        ({"data": {"folder": "a", "camera_motion": "pan"}}, r"data\.camera_motion: input should be .*'pan left'"),
        ({"lora": {"rank": 0}}, r"lora\.rank: 0 is not from 1 to 4096"),
        ({"objective": {"accumulate": 0}}, r"objective\.accumulate: 0 is not from 1 to 1e\+06"),
        ({"objective": {"noise_offset": -0.1}}, r"objective\.noise_offset: -0\.1 is not from 0 to 1"),
        ({"objective": {"first_timestep": 1000}}, r"objective\.first_timestep: 1000 is not from 0 to 999"),
        ({"fit": {"steps": 0, "learning_rate": 1e-3}}, r"fit\.steps: 0 is not from 1 to 1e\+09"),
        ({"data": {"folder": "a", "stride": -1}}, r"data\.stride: -1 is not from 1 to 1e\+06"),
        ({"data": {"folder": "a", "frames": 0}}, r"data\.frames: 0 is not from 1 to 4096"),
        ({"data": {"folder": "a", "frame_rate": 0.0}}, r"data\.frame_rate: 0\.0 is not from 0\.1 to 1000"),
        ({"fit": {"steps": 3, "learning_rate": 1e-3, "clip": 0.0}}, r"fit\.clip: 0\.0 is not from 1e-12 to inf"),
        ({"fit": {"steps": 3, "learning_rate": 1e-3, "average": 1.0}}, r"fit\.average: 1\.0 is not from 0 to 0\.9"),
        ({"samples": {"size": [255, 250]}}, r"samples: 'size' is \[255, 250\], but both must be multiples of 8"),
        ({"samples": {"keyframe_positions": "first"}}, r"samples: 'keyframe_positions': .*first. is not a frame"),
        ({"name": "a/b"}, r"run\.toml: 'name' is 'a/b', which is no name of a file"),
        ({"data": {"folder": "a", "variants": 0}}, r"data\.variants: 0 is not from 1 to 1e\+06"),
    ],
)
def test_a_wrong_key_is_named(run, changes, message):
    with pytest.raises(ValueError, match=message):
        run(**changes)


def test_paths_start_in_the_folder_of_the_configuration(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    table = configuration(Path("clips"), Path("out"), loras=["a.safetensors"], data={"shards": "clips-{0..3}.tar"})
    write_config(tmp_path / "there" / "run.toml", table)
    monkeypatch.chdir(tmp_path)
    result, absolute = (config.read_config(folder / "there" / "run.toml") for folder in (Path(), tmp_path))
    assert result == absolute
    assert result.output == tmp_path / "there" / "out" and result.loras == (tmp_path / "there" / "a.safetensors",)
    assert result.data.shards == str(tmp_path / "there" / "clips-{0..3}.tar")


def test_an_example_of_every_kind_reads():
    examples = sorted((ROOT / "training" / "examples").glob("*.toml"))
    kinds = {config.read_config(file).train for file in examples}
    assert kinds == {"motion module", "motion LoRA", "domain adapter", "SparseCtrl"} and len(examples) == 6


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of a file's size")
def test_nothing_is_left_half_written_when_the_disk_is_full(run, tmp_path):
    import resource  # not on Windows
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # a disk that takes no more than that of a file
    try:
        with pytest.raises(OSError, match="could not be written: free disk space"):
            run(name="full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [file.name for file in (tmp_path / "out").iterdir() if file.name.startswith("full")]
