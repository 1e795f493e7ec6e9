"""`python -m training`, as a user runs it: alone, in two processes, and stopped half-way."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_run_support import configuration, drawn_clips, fit_a_line, write_config

from animatediff_native.training import command

ROOT = Path(__file__).resolve().parents[2]
TRAINING = [sys.executable, "-m", "training"]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
CPU = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}  # without the second, its launcher looks for GPUs
STEPS: dict[str, Any] = {"fit": {"steps": 16, "learning_rate": 1e-3}, "save_every": 0.0}


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    return drawn_clips(tmp_path_factory.mktemp("clips"), 4)


def start(words: list[str], config: Path, **options: Any) -> subprocess.Popen[str]:
    command = [*words, "--config", str(config), "--comfyui", os.environ["ADN_COMFYUI"]]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | CPU
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} | options
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **options)


def train(config: Path, words: list[str] = TRAINING) -> dict[str, torch.Tensor]:
    """What it wrote."""
    process = start(words, config)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    return load_file(output.strip().splitlines()[-1])


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, clips) -> dict[str, torch.Tensor]:
    """A training that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    return train(write_config(folder / "run.toml", configuration(clips, folder / "out", **STEPS)))


def wait_for_state(file: Path, before: int = 0) -> None:
    """Wait until the file is written anew."""
    deadline = time.monotonic() + 200
    while not (file.exists() and file.stat().st_mtime_ns != before) and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.mark.one_version
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_a_training_that_was_stopped_and_killed_ends_like_one_that_was_not(whole, clips, tmp_path):
    config = write_config(tmp_path / "run.toml", configuration(clips, tmp_path / "out", **STEPS))
    state, done = tmp_path / "out" / "m.pt", []
    for kill in (signal.SIGTERM, signal.SIGKILL):
        process, before = start(TRAINING, config), state.stat().st_mtime_ns if state.exists() else 0
        wait_for_state(state, before)
        process.send_signal(kill)
        output = process.communicate(timeout=100)[0]
        if kill == signal.SIGTERM:
            assert process.returncode == 130 and "Stopped; run the same command to resume." in output
        done.append(len(torch.load(state)["losses"]))
    assert 1 <= done[0] < done[1] < STEPS["fit"]["steps"] and not (tmp_path / "out" / "m.safetensors").exists()
    assert same(train(config), whole)


@pytest.mark.one_version
def test_two_processes_learn_what_one_does_with_the_same_clips_in_a_step(clips, tmp_path):
    """Compared by the losses and the gradients: Adam makes steps of one size of gradients that are but rounding."""
    pytest.importorskip("accelerate")

    def state(batch: int, words: list[str]) -> dict[str, Any]:
        out = tmp_path / f"{batch} at once"
        objective, fit = {"loss": "velocity", "batch": batch}, {"steps": 2, "learning_rate": 1e-4}
        data = {"folder": str(clips), "stride": 1, "size": 96}  # smaller clips have gradients nearer to rounding
        config = configuration(clips, out, data=data, objective=objective, fit=fit)
        train(write_config(tmp_path / f"{batch}.toml", config), words)
        return torch.load(out / "m.pt")

    two, one = state(1, [*LAUNCH, "-m", "training"]), state(2, TRAINING)
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
    averages = [[entry["exp_avg"] for entry in result["optimizer"]["state"].values()] for result in (two, one)]
    for name, a, b in zip(one["weights"], *averages, strict=True):
        assert (a - b).norm() < 1e-3 * b.norm() + 1e-9, name
    assert list((tmp_path / "1 at once").rglob("events.out.tfevents.*"))


@pytest.mark.one_version
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no signals to groups of processes")
def test_ctrl_c_stops_all_processes_after_a_step(clips, tmp_path):
    """The terminal sends it to the launcher, to each of them, and to those that decode shards for them."""
    pytest.importorskip("accelerate")
    pytest.importorskip("webdataset")
    out, shard, fit = tmp_path / "out", tmp_path / "clips.tar", {"steps": 500, "learning_rate": 1e-3}
    with tarfile.open(shard, "w") as tar:
        for file in sorted(clips.glob("*.*")):
            tar.add(file, file.name)
    data = {"shards": str(shard), "frames": 4, "stride": 1, "size": 64}
    config = write_config(tmp_path / "run.toml", configuration(clips, out, data=data, fit=fit, save_every=0.0))
    with open(tmp_path / "said.txt", "w+") as output:
        process = start([*LAUNCH, "-m", "training"], config, stdout=output, start_new_session=True)
        wait_for_state(out / "m.pt")
        os.killpg(process.pid, signal.SIGINT)
        process.wait(100)
    text = (tmp_path / "said.txt").read_text()
    assert text.count("Stopped; run the same command to resume.") == 2 and "Connection" not in text, text
    assert "DataLoader worker" not in text, text
    assert 1 <= len(torch.load(out / "m.pt")["losses"]) < 500


def test_an_error_is_a_sentence_and_no_traceback(clips, tmp_path, capsys):
    config = write_config(tmp_path / "run.toml", configuration(clips, tmp_path / "out", lora={"rank": "eight"}))
    assert command.run(config) == 1
    output = capsys.readouterr().err
    assert "lora.rank: " in output and "Traceback" not in output


@pytest.mark.one_version
@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")
def test_nothing_is_lost_in_ten_kills_at_random_moments(tmp_path):
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["animatediff_native.demo.fine_tune", "torch._dynamo"])  # imported once for all

    def run(folder: Path) -> Any:
        process = processes.Process(target=fit_a_line, args=(folder,))
        process.start()
        return process

    def finish(folder: Path) -> None:
        process = run(folder)
        process.join(200)
        assert process.exitcode == 0

    chance, done = random.Random(0), 0
    finish(tmp_path / "whole")
    for _ in range(10):
        process, state = run(tmp_path / "killed"), tmp_path / "killed" / "line.pt"
        before = state.stat().st_mtime_ns if state.exists() else 0
        while process.is_alive() and not (state.exists() and state.stat().st_mtime_ns != before):
            time.sleep(0.005)  # until it is under way
        time.sleep(chance.random() * 0.2)
        process.kill()
        process.join()
        now = len(torch.load(state)["losses"])
        assert now >= done
        done = now
    finish(tmp_path / "killed")
    assert torch.equal(torch.load(tmp_path / "killed" / "end.pt"), torch.load(tmp_path / "whole" / "end.pt"))
