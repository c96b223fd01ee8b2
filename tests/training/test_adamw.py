from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from training.adamw import AdamW, one_cycle


def test_adamw_steps_follow_the_paper() -> None:
    # Algorithm 2 of Loshchilov & Hutter 2019 in float64, line by line.
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=5), rng.normal(size=(50, 5))
    theta, m, v = start.copy(), np.zeros(5), np.zeros(5)
    parameter = nn.Parameter(torch.tensor(start))
    optimizer = AdamW([(parameter, 0.3)])
    for t, g in enumerate(gradients, start=1):
        rate = 0.01 * t / 50
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        update = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        theta = theta - rate * (update + 0.3 * theta)
        parameter.grad = torch.tensor(g)
        optimizer.step(rate)
    np.testing.assert_allclose(parameter.detach().numpy(), theta, rtol=1e-10)
    assert parameter.grad is None


def test_adamw_parameter_without_a_gradient_stays() -> None:
    parameter = nn.Parameter(torch.ones(3))
    AdamW([(parameter, 0.5)]).step(0.1)
    assert parameter.tolist() == [1, 1, 1]


@pytest.mark.parametrize("steps", [1, 2, 10, 510])
def test_one_cycle_rises_for_a_tenth_and_falls_to_nearly_nothing(steps: int) -> None:
    rates = [one_cycle(step, steps, 2e-3) for step in range(steps)]
    top = int(np.argmax(rates))
    assert max(rates) == pytest.approx(2e-3)
    assert top <= 0.1 * steps
    assert np.all(np.diff(rates[top:]) < 0)
    assert np.all(np.diff(rates[: top + 1]) > 0)
    if steps > 2:
        assert rates[-1] < 1e-7
