"""One training loop for all that is trained here: seeded, averages the weights, and goes on after a stop as if there
had been none: to the bit where PyTorch's kernels repeat themselves, as they do on a CPU."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from math import cos, isfinite, pi
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from .loss_curve import draw_losses
from .processes import OneProcess

# From a step on, for each step the losses of its micro-batches, of which the mean is learned from.
Losses = Callable[[int], Iterator[Iterable[Tensor]]]


@dataclass(frozen=True)
class FitOptions:
    """[fit] of a configuration."""

    __pydantic_config__ = {"extra": "forbid"}
    steps: int
    learning_rate: float
    weight_decay: float = 0.01
    warmup: int = 200
    """Steps in which the learning rate rises, at most a tenth of all."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Of the learning rate afterwards: "cosine" goes down to 0, "constant" stays."""
    clip: float = 1.0
    """Largest norm of the gradients."""
    average: float = 0.998
    """Share that the moving average of the weights (EMA) keeps in each step; 0 keeps none."""

    def __post_init__(self):
        if self.steps < 1 or self.learning_rate <= 0:
            raise ValueError(
                f"{self.steps} steps with a learning rate of {self.learning_rate}: both have to be above 0."
            )


@dataclass(frozen=True)
class Progress:
    name: str
    steps: int
    losses: list[float]
    """One for each step that is done."""
    seconds_per_step: float
    averages: dict[str, Tensor]
    """What is learned so far."""


class Pass(NamedTuple):
    """What a step's forward and backward pass gave, the same in all processes."""

    loss: float
    norm: float
    """Of the gradients, before they were clipped."""
    stop: bool


def print_progress(progress: Progress) -> None:
    done, steps, pace = len(progress.losses), progress.steps, progress.seconds_per_step
    if done % 20 and done != steps:
        return
    recent = sum(progress.losses[-100:]) / len(progress.losses[-100:])
    left = f"{(steps - done) * pace / 60:.0f} min left"
    report = f"{progress.name}: step {done}/{steps}, loss {recent:.4f}, {pace:.2f} s a step, {left} "
    print(f"\r{report}", end="\n" if done == steps else "", file=sys.stderr, flush=True)


def seeded(loss: Callable[[torch.Generator], Tensor], seed: int) -> Losses:
    """For a loss that draws its own data: from a generator that is seeded by the step."""

    def losses(first: int) -> Iterator[list[Tensor]]:
        for step in count(first):
            yield [loss(torch.Generator().manual_seed(seed * 1_000_003 + step))]

    return losses


def share_of_rate(options: FitOptions, step: int) -> float:
    """The learning rate at a step, of the highest."""
    warmup = min(options.warmup, options.steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    if options.schedule == "constant":
        return 1.0
    return 0.5 + 0.5 * cos(pi * min(1.0, (step - warmup) / max(1, options.steps - warmup)))


class Fit:
    """Weights in training, their moving average, and what else the next step depends on."""

    def __init__(self, parameters: dict[str, Parameter], options: FitOptions, settings: dict[str, Any]):
        self.options, self.settings = options, {**asdict(options), **settings}
        self.names, self.weights = list(parameters), list(parameters.values())
        for weight in self.weights:
            weight.requires_grad_(True)
        self.averages = [weight.detach().clone() for weight in self.weights]
        self.optimizer = torch.optim.AdamW(
            self.weights, lr=options.learning_rate, weight_decay=options.weight_decay, betas=(0.9, 0.99)
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, partial(share_of_rate, options))
        self.losses: list[float] = []

    def gradients(self, losses: Iterable[Tensor], processes: OneProcess, stop: Callable[[], bool]) -> Pass:
        """Of the mean of a step's losses; no weight changes yet. Where one process is to stop, all are told."""
        self.optimizer.zero_grad(set_to_none=True)
        values, parts = torch.zeros(2, device=processes.device), 0
        for loss in losses:
            loss.backward()
            values[:1] += loss.detach()
            parts += 1
        values[1] = stop()
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        if parts > 1:
            torch._foreach_div_(gradients, parts)
        processes.average([*gradients, values])
        norm = torch.nn.utils.clip_grad_norm_(self.weights, self.options.clip)
        total, stopped = values.tolist()
        return Pass(total / parts, norm.item(), stopped > 0)

    def change(self, loss: float) -> None:
        """One step of the weights."""
        self.optimizer.step()
        self.schedule.step()
        decay = min(self.options.average, (1 + len(self.losses)) / (10 + len(self.losses)))
        torch._foreach_lerp_(self.averages, [weight.detach() for weight in self.weights], 1 - decay)
        self.losses.append(loss)

    def state(self) -> dict[str, Any]:
        return {
            "weights": dict(zip(self.names, (weight.detach() for weight in self.weights), strict=True)),
            "averages": self.learned(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "losses": self.losses,
            "settings": self.settings,
        }

    def restore(self, state: dict[str, Any]) -> None:
        for weight, average, name in zip(self.weights, self.averages, self.names, strict=True):
            weight.data.copy_(state["weights"][name])
            average.copy_(state["averages"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.losses = state["losses"]

    def learned(self) -> dict[str, Tensor]:
        return dict(zip(self.names, self.averages, strict=True))

    def finish(self) -> None:
        """Leave the averages in the weights."""
        for weight, average in zip(self.weights, self.averages, strict=True):
            weight.data.copy_(average)
            weight.requires_grad_(False)


def fit(
    name: str,
    parameters: dict[str, Parameter],
    losses: Losses,
    run_dir: Path,
    options: FitOptions,
    *,
    settings: dict[str, Any] | None = None,
    processes: OneProcess | None = None,
    report: Callable[[Progress], None] = print_progress,
    stop: Callable[[], bool] = lambda: False,
    save_every: float = 60.0,
) -> list[float]:
    """Trains `parameters` in place with AdamW (arXiv 1711.05101), leaves their moving average in them, and gives the
    loss of every step.

    A run that was stopped continues from `run_dir/name.pt`. That is written every `save_every` seconds, or less often
    where it would take more than a fiftieth of the time, at the end, and after the steps that were done when a loss or
    `report`, which is called between steps, raises. KeyboardInterrupt after a step in which `stop` says so, in all
    processes. ValueError if the state there is of a run with other options or `settings`, which is what else decides
    the result, or if a loss or its gradient is not finite.
    """
    processes, file = processes or OneProcess(), run_dir / f"{name}.pt"
    training = Fit(parameters, options, settings or {})
    state = processes.from_first(load(file, training.settings) if processes.index == 0 else None)
    if state is not None:
        training.restore(state)
    del state

    first = done = len(training.losses)

    def keep() -> None:
        nonlocal done
        if processes.index == 0 and len(training.losses) > done:
            save(training.state(), file)
            draw_losses(training.losses, name).save(file.with_suffix(".png"))
            done = len(training.losses)

    started = saved = time.monotonic()
    wait, batches = save_every, losses(first)
    for step in range(first, options.steps):
        with kept(keep):
            passed = training.gradients(next(batches), processes, stop)
            check_finite(passed, step)
        processes.log({"loss": passed.loss, "learning rate": float(training.schedule.get_last_lr()[0])}, step)
        training.change(passed.loss)
        now = time.monotonic()
        if processes.index == 0:
            with kept(keep):
                pace = (now - started) / (step + 1 - first)
                report(Progress(name, options.steps, training.losses, pace, training.learned()))
        if passed.stop:
            keep()
            raise KeyboardInterrupt
        if now - saved >= wait or step == options.steps - 1:
            writing = time.monotonic()
            keep()
            saved = time.monotonic()
            wait = max(save_every, 50 * (saved - writing))
    training.finish()
    return training.losses


def check_finite(passed: Pass, step: int) -> None:
    for what, value in (("loss", passed.loss), ("gradient", passed.norm)):
        if not isfinite(value):
            raise ValueError(f"The {what} of step {step + 1} is {value}: lower the learning rate, or compute in fp32.")


@contextmanager
def kept(keep: Callable[[], None]) -> Iterator[None]:
    """Call `keep` if what is done within the context raises."""
    try:
        yield
    except BaseException:
        keep()
        raise


def load(file: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The state of a run, None if there is none."""
    if not file.exists():
        return None
    state = torch.load(file, weights_only=True, map_location="cpu")
    if state["settings"] != settings:
        raise ValueError(f"{file} is from a run with other settings: delete it, or choose another folder.")
    return state


def save(state: dict[str, Any], file: Path) -> None:
    """Complete or not at all: written beside the old file, and then put in its place. OSError if the disk refuses."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".part")
    try:
        with open(unfinished, "wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(file)
    except (OSError, RuntimeError) as error:  # torch makes the second of a full disk
        raise OSError(f"{file} could not be written: free disk space ({error}).") from error
    finally:
        unfinished.unlink(missing_ok=True)
