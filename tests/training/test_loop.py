"""The training loop: it learns, and an interruption changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import Parameter

from training.loop import FitOptions, Progress, fit, print_progress, save, seeded

pytestmark = pytest.mark.autograd
OPTIONS = FitOptions(steps=200, learning_rate=0.1, average=0.9)


def regression(weight: Parameter, parts: int = 1, stop_at: int | None = None):
    """Losses of a line through noisy points; raises as if interrupted at call number `stop_at`."""
    calls = iter(range(10_000))

    def loss(generator: torch.Generator):
        if next(calls) == stop_at:
            raise KeyboardInterrupt
        x = torch.randn(32, generator=generator)
        return (weight * x - 3 * x).square().mean()

    if parts == 1:
        return seeded(loss, seed=0)

    def losses(first: int):
        for whole in seeded(lambda generator: torch.randn(32, generator=generator), seed=0)(first):
            x = next(iter(whole))
            yield ((weight * part - 3 * part).square().mean() for part in x.chunk(parts))

    return losses


def train(folder, options: FitOptions = OPTIONS, report=print_progress, **loss) -> Parameter:
    weight = Parameter(torch.zeros(1))
    fit("line", {"weight": weight}, regression(weight, **loss), folder, options, report=report, save_every=1e9)
    return weight


def test_it_learns_and_draws_the_loss(tmp_path):
    assert abs(train(tmp_path).item() - 3) < 0.1
    assert (tmp_path / "line.png").stat().st_size > 1000


def test_a_run_whose_loss_raises_ends_where_an_uninterrupted_one_does(tmp_path):
    expected = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", stop_at=25)
    assert steps_of(tmp_path / "parts") == 25
    assert torch.equal(train(tmp_path / "parts"), expected)


def test_a_run_whose_report_raises_ends_where_an_uninterrupted_one_does(tmp_path):
    def stop(progress: Progress) -> None:
        if len(progress.losses) == 40:
            raise KeyboardInterrupt

    expected = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", report=stop)
    assert steps_of(tmp_path / "parts") == 40
    assert torch.equal(train(tmp_path / "parts"), expected)


def test_a_loss_that_is_no_number_is_an_error_and_not_kept(tmp_path):
    weight = Parameter(torch.zeros(1))

    def losses(first: int):
        for step in range(first, 100):
            yield [weight.sum() * (float("nan") if step == 7 else 1.0)]

    with pytest.raises(ValueError, match="The loss of step 8 is nan: lower the learning rate"):
        fit("line", {"weight": weight}, losses, tmp_path, OPTIONS)
    assert steps_of(tmp_path) == 7 and torch.load(tmp_path / "line.pt")["weights"]["weight"].isfinite()


def steps_of(folder) -> int:
    return len(torch.load(folder / "line.pt")["losses"])


def test_a_run_that_was_killed_goes_on_from_its_last_state(tmp_path):
    weight, states = Parameter(torch.zeros(1)), []

    def look(progress: Progress) -> None:
        states.append((tmp_path / "line.pt").exists())

    fit("line", {"weight": weight}, regression(weight), tmp_path, OPTIONS, report=look, save_every=0)
    assert not states[0] and all(states[1:])


def test_a_half_written_state_is_never_read(tmp_path):
    train(tmp_path)
    whole = (tmp_path / "line.pt").read_bytes()
    with pytest.raises(AttributeError):
        save({"a": torch.zeros(9), "what cannot be written": lambda: None}, tmp_path / "line.pt")
    assert (tmp_path / "line.pt").read_bytes() == whole
    assert sorted(file.name for file in tmp_path.iterdir()) == ["line.png", "line.pt"]


def test_a_run_with_other_settings_is_not_continued(tmp_path):
    train(tmp_path)
    with pytest.raises(ValueError, match=r"line\.pt is from a run with other settings"):
        train(tmp_path, FitOptions(steps=200, learning_rate=0.2, average=0.9))


def test_a_step_in_parts_equals_one_at_once(tmp_path):
    torch.testing.assert_close(train(tmp_path / "parts", parts=4), train(tmp_path / "whole"), rtol=1e-5, atol=1e-6)


def test_without_an_average_the_last_weights_stay(tmp_path):
    weight, seen = Parameter(torch.zeros(1)), []
    options = FitOptions(steps=50, learning_rate=0.1, average=0.0)
    fit("line", {"w": weight}, regression(weight), tmp_path, options, report=lambda _: seen.append(weight.item()))
    assert weight.item() == seen[-1]


def test_a_constant_rate_stays_and_a_cosine_goes_down(tmp_path):
    def reached(schedule: Any) -> float:
        options = FitOptions(steps=60, learning_rate=1e-3, schedule=schedule, average=0.0, weight_decay=0.0)
        return train(tmp_path / schedule, options).item()

    # Adam moves a single weight by the rate in each step: 60 of them, or about half with the cosine.
    assert reached("constant") == pytest.approx(0.0575, rel=0.05)
    assert reached("cosine") == pytest.approx(0.0300, rel=0.1)
