"""The training loop: it learns, and an interruption changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Parameter

from training.loop import fit

pytestmark = pytest.mark.autograd


def regression(weight: Parameter, stop_at: int | None = None):
    """Loss of a line through noisy points; raises as if interrupted at call number `stop_at`."""
    calls = iter(range(10_000))

    def loss(generator: torch.Generator):
        if next(calls) == stop_at:
            raise KeyboardInterrupt
        x = torch.randn(32, generator=generator)
        return (weight * x - 3 * x).square().mean()

    return loss


def train(folder, stop_at: int | None = None, learning_rate: float = 0.1) -> Parameter:
    weight = Parameter(torch.zeros(1))
    loss = regression(weight, stop_at)
    fit("line", {"weight": weight}, loss, folder, steps=200, learning_rate=learning_rate, average=0.9)
    return weight


def test_it_learns_and_draws_the_loss(tmp_path):
    assert abs(train(tmp_path).item() - 3) < 0.1
    assert (tmp_path / "line.png").stat().st_size > 1000


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(tmp_path, monkeypatch):
    expected = train(tmp_path / "whole")
    monkeypatch.setattr("training.loop.SAVE_EVERY_SECONDS", -1)  # save after every step,
    monkeypatch.setattr("training.loop.plot", lambda *_: None)  # but do not draw each time
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", stop_at=25)
    assert torch.equal(train(tmp_path / "parts"), expected)


def test_a_run_with_other_settings_is_not_continued(tmp_path):
    train(tmp_path)
    with pytest.raises(ValueError, match=r"line\.pt is from a run with other settings"):
        train(tmp_path, learning_rate=0.2)
