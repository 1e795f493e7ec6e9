"""One training loop for all that is trained here: resumable, seeded, averages the weights, draws the loss curve."""

import sys
import time
from collections.abc import Callable
from math import cos, pi
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import Parameter

SAVE_EVERY_SECONDS = 60


def fit(
    name: str,
    parameters: dict[str, Parameter],
    loss: Callable[[torch.Generator], Tensor],
    run_dir: Path,
    *,
    steps: int,
    learning_rate: float,
    weight_decay: float = 0.01,
    average: float = 0.998,
    seed: int = 0,
) -> None:
    """Trains `parameters` in place with AdamW and leaves their exponential moving average in them.

    `loss` gets a generator that is seeded by the step, so a run that was interrupted continues from
    `run_dir/name.pt` with the data it would have seen. Writes the loss curve to `run_dir/name.png`. ValueError if
    the state there is of a run with other settings.
    """
    weights = list(parameters.values())
    for weight in weights:
        weight.requires_grad_(True)
    averages = [weight.detach().clone() for weight in weights]
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=weight_decay, betas=(0.9, 0.99))
    warmup = min(200, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _warmup_cosine(step, warmup, steps))
    losses: list[float] = []
    settings = {
        "steps": steps,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "average": average,
        "seed": seed,
    }

    state_file = run_dir / f"{name}.pt"
    run_dir.mkdir(parents=True, exist_ok=True)
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        if state.get("settings") != settings:
            raise ValueError(f"{state_file} is from a run with other settings: delete it, or choose another folder.")
        for weight, average_, key in zip(weights, averages, parameters, strict=True):
            weight.data.copy_(state["weights"][key])
            average_.copy_(state["averages"][key])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        losses = state["losses"]

    def save() -> None:
        state = {
            "weights": dict(zip(parameters, (w.detach() for w in weights), strict=True)),
            "averages": dict(zip(parameters, averages, strict=True)),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "losses": losses,
            "settings": settings,
        }
        torch.save(state, state_file.with_suffix(".tmp"))
        state_file.with_suffix(".tmp").replace(state_file)
        plot(losses, name, run_dir / f"{name}.png")

    started, first, saved = time.monotonic(), len(losses), time.monotonic()
    for step in range(first, steps):
        value = loss(torch.Generator().manual_seed(seed * 1_000_003 + step))
        value.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        losses.append(value.item())
        decay = min(average, (1 + step) / (10 + step))
        torch._foreach_lerp_(averages, [weight.detach() for weight in weights], 1 - decay)
        if time.monotonic() - saved > SAVE_EVERY_SECONDS or step == steps - 1:
            save()
            saved = time.monotonic()
        if step % 20 == 0 or step == steps - 1:
            pace = (time.monotonic() - started) / (step + 1 - first)
            recent = sum(losses[-100:]) / len(losses[-100:])
            left = (steps - 1 - step) * pace / 60
            report = f"{name}: step {step + 1}/{steps}, loss {recent:.4f}, {pace:.2f} s a step, {left:.0f} min left "
            print(f"\r{report}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for weight, average_ in zip(weights, averages, strict=True):
        weight.data.copy_(average_)
        weight.requires_grad_(False)


def _warmup_cosine(step: int, warmup: int, steps: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 + 0.5 * cos(pi * min(1.0, (step - warmup) / max(1, steps - warmup)))


def plot(losses: list[float], name: str, file: Path) -> None:
    """The loss of every step, and its running mean, as a picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    window = max(1, len(losses) // 50)
    smooth = torch.tensor(losses).unfold(0, window, 1).mean(-1).tolist() if losses else []
    axes.plot(losses, color="#c8ccd4", linewidth=0.5)
    axes.plot(range(window - 1, len(losses)), smooth, color="#2a5bd7", linewidth=1.5)
    axes.set(title=name, xlabel="step", ylabel="loss", yscale="log")
    figure.savefig(file, dpi=110)
