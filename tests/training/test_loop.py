"""The training loop: it learns, and an interruption changes nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from animatediff_native.training import loop
from animatediff_native.training.loop import FitOptions, Progress, Training, differences, seeded, write_state

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


def train(folder, options: FitOptions = OPTIONS, report=lambda progress: None, **loss) -> Parameter:
    weight = Parameter(torch.zeros(1))
    line(folder, weight, options, save_every=1e9).run(regression(weight, **loss), report)
    return weight


def line(folder, weight: Parameter, options: FitOptions = OPTIONS, **more: Any) -> Training:
    return Training(folder / "line.pt", {"weight": weight}, options, **more)


def test_it_learns_and_shows_the_loss(tmp_path, capsys):
    assert abs(train(tmp_path).item() - 3) < 0.1
    assert re.search(r"line: 100%.* 200/200 .*loss 0\.\d{4}", capsys.readouterr().err)
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
        line(tmp_path, weight).run(losses)
    assert steps_of(tmp_path) == 7 and torch.load(tmp_path / "line.pt")["weights"]["weight"].isfinite()


def test_a_gradient_that_is_no_number_is_an_error_and_not_kept(tmp_path):
    weight = Parameter(torch.zeros(1))

    def losses(first: int):
        for step in range(first, 100):
            yield [weight.square().sum().sqrt() if step == 7 else (weight - 0.0).sum() * 0 + weight.detach().sum()]

    with pytest.raises(ValueError, match="The gradient of step 8 is nan: lower the learning rate"):
        line(tmp_path, weight).run(losses)
    assert steps_of(tmp_path) == 7 and torch.load(tmp_path / "line.pt")["weights"]["weight"].isfinite()


def test_a_run_that_fails_at_once_leaves_no_state_behind(tmp_path):
    """Which would be in the way of a run with other settings."""
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stop_at=0)
    assert not (tmp_path / "line.pt").exists()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stop_at=5)
    written = (tmp_path / "line.pt").stat().st_mtime_ns
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, stop_at=0)
    assert (tmp_path / "line.pt").stat().st_mtime_ns == written and steps_of(tmp_path) == 5


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)
    return clock


def steps_written(clock: Clock, monkeypatch, folder, seconds_to_write: float, seconds_to_report) -> list[int]:
    """The steps after which the state is written, of 200 that take no time but for these."""
    weight, written = Parameter(torch.zeros(1)), []

    def write(state, file) -> None:
        clock.now += seconds_to_write
        written.append(len(state["losses"]))

    def report(progress: Progress) -> None:
        clock.now += seconds_to_report(len(progress.losses))

    monkeypatch.setattr(loop, "write_state", write)
    line(folder, weight, save_every=0).run(regression(weight), report)
    return written


def test_states_that_take_long_to_write_are_written_less_often(clock, monkeypatch, tmp_path):
    """Those of a whole motion module are of several GB."""
    written = steps_written(clock, monkeypatch, tmp_path, seconds_to_write=1, seconds_to_report=lambda step: 1)
    assert written == [1, 51, 101, 151, OPTIONS.steps]


def test_a_slow_report_does_not_put_off_the_states(clock, monkeypatch, tmp_path):
    """Such as one that renders samples."""
    written = steps_written(
        clock, monkeypatch, tmp_path, seconds_to_write=1, seconds_to_report=lambda step: 1000 if step == 1 else 10
    )
    assert written[:4] == [1, 6, 11, 16]


def test_a_run_that_is_told_to_stop_ends_after_the_step(tmp_path):
    expected, asked = train(tmp_path / "whole"), iter([False] * 9 + [True])
    weight = Parameter(torch.zeros(1))
    with pytest.raises(KeyboardInterrupt):
        line(tmp_path / "parts", weight).run(regression(weight), stop=lambda: next(asked))
    assert steps_of(tmp_path / "parts") == 10
    assert torch.equal(train(tmp_path / "parts"), expected)


def steps_of(folder) -> int:
    return len(torch.load(folder / "line.pt")["losses"])


def test_a_run_that_was_killed_goes_on_from_its_last_state(tmp_path):
    weight, states = Parameter(torch.zeros(1)), []

    def look(progress: Progress) -> None:
        states.append((tmp_path / "line.pt").exists())

    line(tmp_path, weight, save_every=0).run(regression(weight), look)
    assert not states[0] and all(states[1:])


def test_a_half_written_state_is_never_read(tmp_path):
    train(tmp_path)
    whole = (tmp_path / "line.pt").read_bytes()
    with pytest.raises(AttributeError):
        write_state({"a": torch.zeros(9), "what cannot be written": lambda: None}, tmp_path / "line.pt")
    assert (tmp_path / "line.pt").read_bytes() == whole
    assert sorted(file.name for file in tmp_path.iterdir()) == ["line.png", "line.pt"]


def changed(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    state = torch.load(folder / "line.pt")
    change(state)
    torch.save(state, folder / "line.pt")


def flip_a_bit(folder: Path) -> None:
    """Change a weight, which leaves the file readable."""
    data = bytearray((folder / "line.pt").read_bytes())
    data[data.index(torch.load(folder / "line.pt")["weights"]["weight"].numpy().tobytes())] ^= 1
    (folder / "line.pt").write_bytes(data)


class RunsCode:
    """Makes a folder where the pickle that holds it is read."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder / "code ran"),)


def moments(state: dict[str, Any]) -> dict[str, Any]:
    return state["optimizer"]["state"][0]


DAMAGED_STATES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda folder: (folder / "line.pt").write_bytes(b""),
    "text": lambda folder: (folder / "line.pt").write_text("404"),
    "cut": lambda folder: os.truncate(folder / "line.pt", 1000),
    "another file": lambda folder: torch.save([torch.ones(3)], folder / "line.pt"),
    "no weights": lambda folder: changed(folder, lambda state: state.pop("weights")),
    "other weights": lambda folder: changed(folder, lambda state: state["weights"].update(other=torch.ones(1))),
    "no losses": lambda folder: changed(folder, lambda state: state.update(losses=None)),
    "too many losses": lambda folder: changed(folder, lambda state: state.update(losses=[1.0] * 1000)),
    "losses of another kind": lambda folder: changed(folder, lambda state: state.update(losses=torch.ones(9))),
    "a wrong bit": flip_a_bit,
    "code": lambda folder: changed(folder, lambda state: state.update(code=RunsCode(folder))),
    "NaN": lambda folder: changed(
        folder, lambda state: state["weights"].update({"weight": torch.tensor([float("nan")])})
    ),
    "an average of NaN": lambda folder: changed(folder, lambda state: state["averages"]["weight"].fill_(float("nan"))),
    "another shape": lambda folder: changed(
        folder, lambda state: state["weights"].update({"weight": torch.ones(1, 1)})
    ),
    "moments": lambda folder: changed(folder, lambda state: moments(state).update(exp_avg=torch.ones(2))),
    "no moments": lambda folder: changed(folder, lambda state: state["optimizer"]["state"].clear()),
    "a step of NaN": lambda folder: changed(folder, lambda state: moments(state)["step"].fill_(float("nan"))),
    "a step of -1": lambda folder: changed(folder, lambda state: moments(state)["step"].fill_(-1)),
    "half a step": lambda folder: changed(folder, lambda state: moments(state)["step"].fill_(0.5)),
    "a step of none": lambda folder: changed(folder, lambda state: moments(state)["step"].fill_(201)),
    "a negative square": lambda folder: changed(folder, lambda state: moments(state)["exp_avg_sq"].neg_()),
    "a mean above its square": lambda folder: changed(folder, lambda state: moments(state)["exp_avg"].fill_(1e30)),
    "optimiser": lambda folder: changed(folder, lambda state: state.pop("optimizer")),
}


@pytest.mark.parametrize("damage", DAMAGED_STATES)
def test_a_damaged_state_says_how_to_begin_anew(tmp_path, damage):
    train(tmp_path)
    DAMAGED_STATES[damage](tmp_path)
    with pytest.raises(ValueError, match=r"line\.pt is damaged, .*: delete it to begin anew\.$"):
        train(tmp_path)
    assert not (tmp_path / "code ran").exists()


def test_a_run_with_other_settings_is_not_continued(tmp_path):
    train(tmp_path)
    with pytest.raises(ValueError, match=r"line\.pt is from a run with other settings \(learning_rate\): delete it"):
        train(tmp_path, FitOptions(steps=200, learning_rate=0.2, average=0.9))


@pytest.mark.parametrize(
    ("saved", "now", "names"),
    [
        ({"objective": {"batch": 2}}, {"objective": {"batch": 2, "from_noise": 0.0}}, []),  # new since the state
        ({"objective": {"batch": 2}}, {"objective": {"batch": 2, "from_noise": 1.0}}, ["objective.from_noise"]),
        ({"objective": {"batch": 2, "old": 1}}, {"objective": {"batch": 4}}, ["objective.batch", "objective.old"]),
        ({"lora": None, "seed": 0}, {"lora": {"rank": 4}, "seed": 0}, ["lora"]),
        ({"average": 0.998}, {"average": 0.0}, ["average"]),
    ],
)
def test_a_setting_that_an_earlier_version_did_not_know_was_off(saved, now, names):
    assert list(differences(saved, now)) == names


def test_a_step_in_parts_equals_one_at_once(tmp_path):
    torch.testing.assert_close(train(tmp_path / "parts", parts=4), train(tmp_path / "whole"), rtol=1e-5, atol=1e-6)


def test_without_an_average_the_last_weights_stay(tmp_path):
    weight, seen = Parameter(torch.zeros(1)), []
    options = FitOptions(steps=50, learning_rate=0.1, average=0.0)
    line(tmp_path, weight, options).run(regression(weight), report=lambda _: seen.append(weight.item()))
    assert weight.item() == seen[-1]


def test_a_constant_rate_stays_and_a_cosine_goes_down(tmp_path):
    def reached(schedule: Any) -> float:
        options = FitOptions(steps=60, learning_rate=1e-3, schedule=schedule, average=0.0, weight_decay=0.0)
        return train(tmp_path / schedule, options).item()

    # Adam moves a single weight by the rate in each step: 60 of them, or about half with the cosine.
    assert reached("constant") == pytest.approx(0.0575, rel=0.05)
    assert reached("cosine") == pytest.approx(0.0300, rel=0.1)


def fit_line(folder: Any, stop_after: int = 0, parts: int = 1, **options: Any) -> Any:
    """A weight that is drawn to 3; the weight and its losses."""
    weight = Parameter(torch.zeros(1))

    def losses(first: int) -> Any:
        while True:
            yield ((weight - 3).square() * 100 for _ in range(parts))

    def report(progress: Progress) -> None:
        if len(progress.losses) == stop_after:
            raise KeyboardInterrupt

    given = {"steps": 12, "learning_rate": 0.1, "schedule": "constant", "weight_decay": 0.0} | options
    return weight, line(folder, weight, FitOptions(**given)).run(losses, report)


def test_the_loss_of_a_step_is_the_mean_of_its_parts(tmp_path):
    assert fit_line(tmp_path / "a", parts=4)[1] == pytest.approx(fit_line(tmp_path / "b")[1])


def test_gradients_are_clipped(tmp_path):
    weight, _ = fit_line(tmp_path, clip=0.5)
    assert weight.grad.norm() == pytest.approx(0.5, rel=1e-3) and not weight.requires_grad


def test_the_average_goes_on_from_where_it_was(tmp_path):
    whole, _ = fit_line(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit_line(tmp_path / "parts", stop_after=11)
    assert torch.equal(fit_line(tmp_path / "parts")[0], whole)


def test_the_average_of_a_short_training_forgets_where_it_began(tmp_path):
    """Its share begins at a tenth and rises: 0.998 from the first of 12 steps on would have left it near 0."""
    last, _ = fit_line(tmp_path / "last", average=0.0)
    mean, _ = fit_line(tmp_path / "mean")
    assert 0.5 * last < mean < last
