"""The training loop: seeded, averages the weights, and resumes after a stop as if there had been none.

A resumed training is equal to the bit where PyTorch's kernels repeat themselves, as they do on a CPU.
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from math import cos, isfinite, pi
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Parameter
from tqdm import tqdm

from ..motion_models.files import whole_file
from ..sampling.timeline import cut
from .loss_curve import draw_losses
from .processes import OneProcess

Losses = Callable[[int], Iterator[Iterable[Tensor]]]
"""Gives, from a step on, the losses of each step's micro-batches; a step learns from their mean."""


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
    """Learning rate after the warm-up: "cosine" falls to 0, "constant" stays."""
    clip: float = 1.0
    """Largest norm of the gradients."""
    average: float = 0.998
    """Share that the moving average of the weights (EMA) keeps in each step; 0 turns it off."""


@dataclass(frozen=True)
class Progress:
    """What a training reports after each step."""

    name: str
    steps: int
    losses: Sequence[float]
    """One for each finished step."""
    averages: dict[str, Tensor]
    """The moving averages of the weights; the trained file holds these."""


def seeded(loss: Callable[[torch.Generator], Tensor], seed: int) -> Losses:
    """Return the losses of a function that draws its own data, from a generator seeded by the step."""

    def losses(first: int) -> Iterator[list[Tensor]]:
        for step in count(first):
            yield [loss(torch.Generator().manual_seed(seed * 1_000_003 + step))]

    return losses


def share_of_rate(options: FitOptions, step: int) -> float:
    """Return the learning rate at a step as a share of the highest."""
    warmup = min(options.warmup, options.steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    if options.schedule == "constant":
        return 1.0
    return 0.5 + 0.5 * cos(pi * min(1.0, (step - warmup) / max(1, options.steps - warmup)))


class Weights:
    """Weights in training with AdamW (arXiv 1711.05101), their moving averages, and the losses so far."""

    def __init__(self, parameters: dict[str, Parameter], options: FitOptions):
        self.options = options
        self.names, self.values = list(parameters), list(parameters.values())
        for value in self.values:
            value.requires_grad_(True)
        self.averages = [value.detach().clone() for value in self.values]
        self.optimizer = torch.optim.AdamW(
            self.values, lr=options.learning_rate, weight_decay=options.weight_decay, betas=(0.9, 0.99)
        )
        self.losses: list[float] = []

    @property
    def rate(self) -> float:
        """Return the learning rate of the next step."""
        return self.options.learning_rate * share_of_rate(self.options, len(self.losses))

    def gradients(
        self, losses: Iterable[Tensor], processes: OneProcess, stop: Callable[[], bool]
    ) -> tuple[float, bool]:
        """Compute the gradients of the mean of a step's losses; return that mean, and whether any process is to stop.

        ValueError if the mean or a gradient is not finite.
        """
        self.optimizer.zero_grad(set_to_none=True)
        totals, parts = torch.zeros(2, device=processes.device), 0
        for loss in losses:
            loss.backward()
            totals[:1] += loss.detach()
            parts += 1
        totals[1] = stop()
        gradients = [value.grad for value in self.values if value.grad is not None]
        if parts > 1:
            torch._foreach_div_(gradients, parts)
        processes.average([*gradients, totals])
        norm = torch.nn.utils.clip_grad_norm_(self.values, self.options.clip)
        total, stopped = totals.tolist()
        for name, value in (("loss", total / parts), ("gradient", norm.item())):
            if not isfinite(value):
                step = len(self.losses) + 1
                raise ValueError(f"The {name} of step {step} is {value}: lower the learning rate, or compute in fp32.")
        return total / parts, stopped > 0

    def step(self, loss: float) -> None:
        """Change the weights by their gradients, and the averages with them."""
        self.optimizer.param_groups[0]["lr"] = self.rate
        self.optimizer.step()
        decay = min(self.options.average, (1 + len(self.losses)) / (10 + len(self.losses)))
        torch._foreach_lerp_(self.averages, [value.detach() for value in self.values], 1 - decay)
        self.losses.append(loss)

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on."""
        return {
            "weights": dict(zip(self.names, (value.detach() for value in self.values), strict=True)),
            "averages": self.averages_by_name(),
            "optimizer": self.optimizer.state_dict(),
            "losses": self.losses,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned. ValueError if it is damaged, or of other weights."""
        losses, moments = state["losses"], state["optimizer"]["state"]
        if not isinstance(losses, list) or len(losses) > self.options.steps or not all(map(isfinite, losses)):
            raise ValueError("it has other losses")
        if state["weights"].keys() != set(self.names) or not moments:
            raise ValueError("it has other weights")
        scalar = torch.zeros(())
        for index, (value, average, name) in enumerate(zip(self.values, self.averages, self.names, strict=True)):
            of_weight = moments.get(index)  # missing if no gradient has reached the weight
            pairs = [(state["weights"][name], value), (state["averages"][name], value)]
            if of_weight is not None:
                pairs += [(of_weight["exp_avg"], value), (of_weight["exp_avg_sq"], value), (of_weight["step"], scalar)]
            if any(a.shape != b.shape or a.dtype != b.dtype or not a.isfinite().all() for a, b in pairs):
                raise ValueError("it has other weights")
            if of_weight is not None and not are_moments(**of_weight, steps=len(losses)):
                raise ValueError("it has moments of no gradients")
            value.data.copy_(state["weights"][name])
            average.copy_(state["averages"][name])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        self.losses = losses

    def averages_by_name(self) -> dict[str, Tensor]:
        """Return the moving averages."""
        return dict(zip(self.names, self.averages, strict=True))

    def finish(self) -> None:
        """Put the averages in the weights' place."""
        for value, average in zip(self.values, self.averages, strict=True):
            value.data.copy_(average)
            value.requires_grad_(False)


def are_moments(exp_avg: Tensor, exp_avg_sq: Tensor, step: Tensor, steps: int) -> bool:
    """Return whether AdamW's moments can be those of gradients over `step` of `steps` steps.

    With the betas that are used here, the mean of gradients is at most 2.4 times the root of their mean square.
    """
    smallest = torch.finfo(exp_avg_sq.dtype).tiny ** 0.5  # whose square is 0
    within = exp_avg.abs() <= 10 * (exp_avg_sq.sqrt() + smallest)  # false where the square is negative
    return step.item() in range(1, steps + 1) and bool(within.all())


class Training:
    """A run of the loop, which resumes from `file`, a .pt file named after the run.

    The state is written every `save_every` seconds, or less often where that would take more than a fiftieth of the
    time. `settings` hold all other values that decide the result. ValueError if the file is of a run with different
    ones.
    """

    def __init__(
        self,
        file: Path,
        parameters: dict[str, Parameter],
        options: FitOptions,
        *,
        settings: dict[str, Any] | None = None,
        processes: OneProcess | None = None,
        save_every: float = 60.0,
    ):
        self.file, self.options, self.save_every = file, options, save_every
        self.settings = {**asdict(options), **(settings or {})}
        self.processes = processes or OneProcess()
        self.weights = Weights(parameters, options)
        state = self.processes.from_first(read_state(file, self.settings) if self.processes.index == 0 else None)
        if state is not None:
            with damage_of(file):
                self.weights.restore(state)
        self.saved_steps = len(self.weights.losses)
        self.next_save = time.monotonic() + save_every

    def run(
        self,
        losses: Losses,
        report: Callable[[Progress], None] = lambda progress: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> list[float]:
        """Train to the end, leave the moving averages in the parameters, and return the loss of every step.

        `report` is called after each step in the first process; what it or a loss raises ends the run, with the
        finished steps saved. KeyboardInterrupt, in all processes, after a step in which `stop` returns true.
        ValueError if a loss or its gradient is not finite.
        """
        averages = self.weights.averages_by_name()
        progress = Progress(self.file.stem, self.options.steps, losses=self.weights.losses, averages=averages)
        first, is_first = len(progress.losses), self.processes.index == 0
        bar = tqdm(range(first, progress.steps), progress.name, progress.steps, initial=first, disable=not is_first)
        batches = losses(first)
        for step in bar:
            with self._saved_on_error():
                loss, stopped = self.weights.gradients(next(batches), self.processes, stop)
            rate = self.weights.rate
            self.processes.log({"loss": loss, "learning rate": rate}, step)
            self.weights.step(loss)
            if is_first:
                bar.set_postfix_str(f"loss {fmean(progress.losses[-100:]):.4f}", refresh=False)
                with self._saved_on_error():
                    report(progress)
            if stopped:
                self.save()
                raise KeyboardInterrupt
            if time.monotonic() >= self.next_save:
                self.save()
        self.save()
        self.weights.finish()
        return self.weights.losses

    def save(self) -> None:
        """Write the state, unless the file has it already."""
        started, steps = time.monotonic(), len(self.weights.losses)
        if self.processes.index == 0 and steps > self.saved_steps:
            write_state({**self.weights.state(), "settings": self.settings}, self.file)
            with whole_file(self.file.with_suffix(".png")) as unfinished:
                draw_losses(self.weights.losses, self.file.stem).save(unfinished, "PNG")
            self.saved_steps = steps
        ended = time.monotonic()
        self.next_save = ended + max(self.save_every, 50 * (ended - started))

    @contextmanager
    def _saved_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.save()
            raise


def read_state(file: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Return the state of a run, None if there is none. ValueError if it is damaged, or of another run's settings."""
    if not file.exists():
        return None
    with damage_of(file):
        with zipfile.ZipFile(file) as archive:  # torch would not notice wrong bytes
            if archive.testzip() is not None:
                raise ValueError("a checksum is wrong")
        state = torch.load(file, weights_only=True, map_location="cpu")
        names = cut(", ".join(differences(state["settings"], settings)))
    if names:
        raise ValueError(f"{file} is from a run with other settings ({names}): delete it, or choose another folder.")
    return state


def differences(saved: dict[str, Any], settings: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the names of settings that differ. One that an earlier version did not know was off."""
    for key in settings | saved:
        before, now = saved.get(key), settings.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            yield from differences(before, now, f"{prefix}{key}.")
        elif before != now and (before or now):
            yield f"{prefix}{key}"


@contextmanager
def damage_of(file: Path) -> Iterator[None]:
    """Raise ValueError for whatever goes wrong with a state within the context."""
    try:
        yield
    except Exception as error:  # torch raises a dozen kinds for a broken file
        raise ValueError(
            f"{file} is damaged, and this training cannot resume from it: delete it to begin anew."
        ) from error


def write_state(state: dict[str, Any], file: Path) -> None:
    """Write the state of a run, whole or not at all. OSError if the disk refuses."""
    with whole_file(file) as unfinished, unfinished.open("wb") as stream:
        torch.save(state, stream)
