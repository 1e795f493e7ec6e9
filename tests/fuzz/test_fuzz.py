"""Random files, values and faults: a node works, or says in one sentence of ours what is wrong, and leaves no trace.

ADN_FUZZ_ROUNDS makes it longer, and ADN_FUZZ_SEED different:

    ADN_FUZZ_ROUNDS=5000 python tools/dev.py test tests/fuzz
"""

from __future__ import annotations

import math
import os
import random
import string
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import fuzz_support
import pytest
import torch
from lora_support import SPELLINGS, weights
from node_support import FRAMES, ksampler, prompt, run
from sparse_ctrl_support import load_sparse

from animatediff_native.demo import evaluate
from animatediff_native.demo.train import MODELS
from animatediff_native.training.in_graph import Trained

resource = pytest.importorskip("resource", reason="Windows does not tell the most memory that a process had")
ROUNDS = int(os.environ.get("ADN_FUZZ_ROUNDS", "100"))
SEED = int(os.environ.get("ADN_FUZZ_SEED", "1"))
MOST_MEMORY = 1 << 20  # KB that the process may grow by
PACK = str(Path(__file__).parents[2])
NUMBERS = (math.nan, math.inf, -math.inf, 1e308, -0.0, 5e-324)


def rounds(name: str, share: float = 1.0) -> Iterator[random.Random]:
    for number in range(max(1, int(ROUNDS * share))):
        rng = random.Random(f"{SEED} {name} {number}")
        rng.name = f"ADN_FUZZ_SEED={SEED}, {name} {number}"  # type: ignore[attr-defined]
        yield rng


def judge(case: str, action: Callable[[], Any], *names: str) -> Any:
    """Return the result of an action, None if it was refused in one sentence that holds one of the names."""
    try:
        return action()
    except (ValueError, FileNotFoundError) as error:
        message = str(error)
        assert "\n" not in message and len(message) < 700, f"{case}: {message[:1000]}"
        assert message.endswith("."), f"{case}: {message}"
        assert any(name in message for name in names), f"{case}: {message}"
        return None
    except Exception as error:
        raise AssertionError(f"{case}: {type(error).__name__}: {str(error)[:300]}") from error


@pytest.fixture
def clip(apply, model, motion) -> Callable[[], torch.Tensor]:
    return lambda: ksampler(apply(model, motion), steps=1)


@pytest.fixture(autouse=True)
def unchanged(clip, motion_folder, tmp_path, monkeypatch) -> Iterator[None]:
    """What holds after all rounds: the same clip, little memory, nothing executed, no file outside of the output."""
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    before, memory = clip(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    beside = set(tmp_path.parent.iterdir())
    yield
    assert torch.equal(clip(), before)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MOST_MEMORY
    assert not (tmp_path / "marker").exists()
    assert set(tmp_path.parent.iterdir()) == beside
    assert not list(tmp_path.rglob("*.part"))


# Files


@pytest.mark.timeout(max(100, ROUNDS))
def test_hostile_motion_modules(adn, motion_folder):
    for rng in rounds("module"):
        state = fuzz_support.module(rng.choice(list(fuzz_support.FAMILIES)))
        file, faults = fuzz_support.write_hostile(motion_folder, state, rng)
        inputs = {"motion_module": file.name, "stretch_to": rng.choice([0, 0, 0, 17, 40])}
        case = f"{rng.name}, {file.name} with {faults}"  # type: ignore[attr-defined]
        loaded = judge(case, lambda inputs=inputs: run(adn["ADN_LoadMotionModule"], **inputs), file.name, "stretch")
        if loaded is not None:
            assert all(t.isfinite().all() for t in weights(loaded).values()), case
        file.unlink()


@pytest.mark.timeout(max(100, ROUNDS))
def test_hostile_motion_loras(adn, motion_folder, monkeypatch):
    extensions = folder_paths.folder_names_and_paths["animatediff_motion_lora"][1]
    monkeypatch.setitem(
        folder_paths.folder_names_and_paths, "animatediff_motion_lora", ([str(motion_folder)], extensions)
    )
    fuzz_support.save_module(motion_folder / "good.safetensors")
    motion = run(adn["ADN_LoadMotionModule"], motion_module="good.safetensors")
    before = weights(motion)
    for rng in rounds("lora"):
        state = fuzz_support.lora(rng.choice([*SPELLINGS, *fuzz_support.OTHER_FORMS]))
        file, faults = fuzz_support.write_hostile(motion_folder, state, rng)
        case = f"{rng.name}, {file.name} with {faults}"  # type: ignore[attr-defined]
        inputs = {"motion_module": motion, "motion_lora": file.name, "strength": 0.5}
        altered = judge(case, lambda inputs=inputs: run(adn["ADN_LoadMotionLora"], **inputs), file.name)
        file.write_bytes(b"")  # which a file in use may become
        if altered is not None:
            assert all(t.isfinite().all() for t in weights(altered).values()), case
        file.unlink()
    assert all(torch.equal(before[key], t) for key, t in weights(motion).items())


# Values


@pytest.fixture(scope="module")
def miniature() -> evaluate.Miniature:
    with torch.inference_mode():
        return evaluate.Miniature(MODELS)


def text(rng: random.Random) -> str:
    pieces = [
        "0:",
        "0.5",
        "50%",
        "-1",
        "10-20",
        " hold",
        ": ",
        '"',
        "\\",
        "\n",
        "--",
        ",",
        "`",
        "1e9",
        "9" * 40,
        "a cat",
    ]
    pieces += ["0: 1\n", "4: 0.5\n", "0: a seed\n", "é", "\x00", string.printable, "(", ")"]
    return "".join(rng.choice(pieces) for _ in range(rng.choice([0, 1, 3, 12])))


def latent(rng: random.Random) -> dict[str, torch.Tensor]:
    shape = rng.choice([(FRAMES, 4, 8, 8)] * 4 + [(0, 4, 8, 8), (FRAMES, 16, 8, 8), (1, 4, 8, 8), (FRAMES, 4, 8)])
    return {"samples": torch.zeros(shape) + rng.choice([0.0, 0.0, 1.0, math.nan])}


def images(rng: random.Random) -> torch.Tensor:
    shape = rng.choice(
        [(3, 24, 24, 3)] * 4 + [(0, 24, 24, 3), (1, 24, 24, 3), (3, 24, 24, 1), (3, 2, 2, 3), (24, 24, 3)]
    )
    return torch.rand(shape) * rng.choice([1.0, 1.0, 1.0, math.nan, 1e30])


def source(rng: random.Random) -> Any:
    sound = torch.rand(1, rng.choice([1, 2, 0]), rng.choice([0, 1, 16000]))
    return rng.choice([
        None, 1, rng.choice(NUMBERS), [], [0.5] * FRAMES, [math.nan], torch.rand(FRAMES, 8, 8), torch.rand(8, 8),
        torch.full((1, 8, 8), math.nan), torch.rand(3, 4, 4), torch.zeros(0, 8, 8),
        {"waveform": sound, "sample_rate": rng.choice([16000, 1, 0, -1])},
    ])  # fmt: skip


class Values:
    """Values of inputs by their types, valid and hostile ones."""

    def __init__(self, adn: dict[str, Any], model: Any, motion: Any, control: Any, miniature: evaluate.Miniature):
        self.adn, self.schemas = adn, {node: adn[node].GET_SCHEMA() for node in adn}
        trained = {
            f"{layer}.lora_{end}.weight": torch.ones(4, 4) for layer in fuzz_support.layers() for end in ("up", "down")
        }
        self.by_type: dict[str, Callable[[random.Random], Any]] = {
            "MODEL": lambda rng: model,
            "CLIP": lambda rng: miniature.clip,
            "VAE": lambda rng: miniature.vae,
            "CONTROL_NET": lambda rng: control,
            "MOTION_MODEL_ADN": lambda rng: motion,
            "MOTION_MODEL_ADE": lambda rng: motion,
            "LATENT": latent,
            "IMAGE": images,
            "MASK": lambda rng: images(rng)[..., 0],
            "CONDITIONING": lambda rng: (
                prompt(5) if rng.random() < 0.8 else [[torch.ones(1, 77, rng.choice([48, 64])), {}]]
            ),
            "MOTION_LORA_ADN": lambda rng: Trained("", trained, {"rank": "4"}, [1.0]),
            "MOTION_CURVE_ADN": lambda rng: self.make("ADN_MotionCurve", rng),
            "CAMERA_PATH_ADN": lambda rng: run(self.adn["ADN_CameraPath"]),
            "MOTION_PATHS_ADN": lambda rng: run(self.adn["ADN_MotionPath"])[0],
            "MOTION_STRENGTH_ADN": lambda rng: self.make("ADN_MotionStrength", rng),
        }

    def make(self, node: str, rng: random.Random) -> Any:
        """The output of another node for valid values, of the pack's own nodes often the one for its defaults."""
        if not node.startswith("ADN_Old") and rng.random() < 0.5:
            return run(self.adn[node])
        return run(self.adn[node], **self.of(node, rng, hostile=0.0))

    def of(self, node: str, rng: random.Random, hostile: float = 0.1) -> dict[str, Any]:
        schema, values = self.schemas[node], {}
        for entry in schema.inputs:
            if not (getattr(entry, "optional", False) and rng.random() < 0.5):
                value = self.value(getattr(entry, "input_override", None) or entry, rng, hostile)
                if value is not NOTHING:
                    values[entry.id] = [value] if schema.is_input_list else value
        return values

    def maker(self, kind: str, rng: random.Random) -> Any:
        """The output of a stand-in of that type."""
        stand_ins = ((node, schema) for node, schema in self.schemas.items() if node.startswith("ADN_Old"))
        makers = [node for node, schema in stand_ins if [o.get_io_type() for o in schema.outputs] == [kind]]
        try:
            return self.make(rng.choice(makers), rng) if makers else NOTHING
        except ValueError:  # a loader whose folder is empty
            return NOTHING

    def value(self, entry: Any, rng: random.Random, hostile: float) -> Any:
        kind, odd = entry.get_io_type().split(",")[0], rng.random() < hostile
        if kind in ("INT", "FLOAT"):
            low, high = entry.min, entry.max
            if odd:
                return rng.choice(NUMBERS if kind == "FLOAT" else (low - 1, high + 1, 10**9, 10**400, -(10**9)))
            small = min(high, max(low, entry.default or 0) + 2)
            within = (
                rng.uniform(low, small)
                if kind == "FLOAT"
                else rng.randint(low, min(small, 20) if small > 20 else small)
            )
            return rng.choice([entry.default, low, within] if kind == "INT" else [entry.default, low, high, within])
        if kind == "BOOLEAN":
            return rng.random() < 0.5
        if kind == "COMBO":
            return rng.choice(entry.options)
        if kind == "STRING":
            return text(rng) if rng.random() < 0.5 else entry.default
        if entry.id == "source":
            return source(rng) if odd or rng.random() < 0.5 else NOTHING
        return self.by_type[kind](rng) if kind in self.by_type else self.maker(kind, rng)


NOTHING = object()
SLOW = ("ADN_TrainMotionLora", "ADN_TrainMotionModule")


@pytest.mark.timeout(max(100, ROUNDS))
def test_hostile_values_of_every_node(adn, model, motion, miniature, tmp_path):
    (tmp_path / "temp").mkdir(exist_ok=True)
    values = Values(adn, model, motion, load_sparse(tmp_path / "temp"), miniature=miniature)
    nodes = sorted(adn)
    for rng in rounds("values", 2.0):
        node = rng.choice(nodes if rng.random() < 0.15 else [node for node in nodes if node not in SLOW])
        inputs = values.of(node, rng)
        if node in SLOW:
            inputs |= {"steps": [rng.choice([1, 2, 0, 10**9])], "frames": [rng.choice([2, FRAMES, 300])], "batch": [1]}
            inputs |= {"accumulate": [1], "precision": ["fp32"]}
        case = f"{rng.name}, {node}: {str(inputs)[:1500]}"  # type: ignore[attr-defined]
        with torch.inference_mode():
            result = judge(case, lambda node=node, inputs=inputs: adn[node].EXECUTE_NORMALIZED(**inputs).result, "")
        for output in result or ():
            if isinstance(output, type(model)):
                sampled = judge(case, lambda output=output: ksampler(output, steps=2), "")
                assert sampled is None or sampled.isfinite().all(), case
            if hasattr(output, "over_frames"):
                judge(
                    case,
                    output.over_sampling if output.over == "sampling" else lambda o=output: o.over_frames(FRAMES),
                    "",
                )
    outside = [
        file
        for file in tmp_path.rglob("*")
        if file.is_file() and file.parts[len(tmp_path.parts)] not in ("output", "temp")
    ]
    assert [file.name for file in outside] == ["v2_1.safetensors"]


# Faults


class Fault:
    """Raises an error at one of the calls of the pack's functions."""

    def __init__(self, after: int, error: BaseException):
        self.after, self.error, self.calls = after, error, 0

    def __call__(self, frame: Any, event: str, _argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACK) and "/tests/" not in frame.f_code.co_filename:
            self.calls += 1
            if self.calls == self.after:
                sys.setprofile(None)
                raise self.error


def with_fault(action: Callable[[], Any], after: int, error: BaseException) -> int:
    """Run an action with an error after so many calls, none if that is 0; return how many calls there were."""
    fault = Fault(after, error)
    sys.setprofile(fault)
    try:
        action()
    except BaseException as raised:
        sys.setprofile(None)
        links: list[BaseException | None] = [raised]
        while links[-1] is not None and links[-1] is not error:
            links.append(links[-1].__cause__ or links[-1].__context__)
        if links[-1] is None:
            raise
    finally:
        sys.setprofile(None)
    return fault.calls


@pytest.mark.timeout(max(100, 2 * ROUNDS))
def test_a_fault_anywhere_leaves_no_trace(adn, apply, model, motion, clip, tmp_path):
    before, hooks = clip(), [len(m._forward_hooks) for m in model.model.modules()]
    windowed = run(adn["ADN_SlidingContext"], model=apply(model, motion), context_length=4, context_overlap=2)
    actions = {
        "clip": lambda: ksampler(apply(model, motion), steps=1),
        "windows": lambda: ksampler(windowed, steps=1),
        "free init": lambda: ksampler(run(adn["ADN_FreeInit"], model=windowed, iterations=2), steps=1),
        "load": lambda: run(adn["ADN_LoadMotionModule"], motion_module="v2_1.safetensors"),
        "save": lambda: adn["ADN_SaveMotionModule"].EXECUTE_NORMALIZED(motion, "modules/a"),
    }
    errors = (
        MemoryError,
        KeyboardInterrupt,
        OSError,
        RuntimeError,
        comfy.model_management.InterruptProcessingException,
    )
    calls = {name: with_fault(action, 0, ValueError()) for name, action in actions.items()}
    for rng in rounds("fault", 0.5):
        name, error = rng.choice(list(actions)), rng.choice(errors)
        after = rng.randint(1, calls[name])
        with_fault(actions[name], after, error("a fault"))
        case = f"{rng.name}, {error.__name__} at call {after} of {name}"  # type: ignore[attr-defined]
        assert [len(m._forward_hooks) for m in model.model.modules()] == hooks, case
        assert torch.equal(clip(), before), case
        assert not list(tmp_path.rglob("*.part")), case
