"""L-BFGS on many problems at once: soon at the minimum, each as if it were alone, whatever becomes of the others."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from analysis.attacks.lbfgs import PAIRS, Lbfgs

Function = Callable[[Tensor], tuple[Tensor, Tensor]]
COUNT, SIZE = 6, 20


def quadratics(condition: float, chosen: slice = slice(None)) -> Function:
    """Losses of chosen ones among 6 quadratics in 20 dimensions, whose curvatures reach from 1 to 1 / condition."""
    generator = torch.Generator().manual_seed(0)
    turned = torch.randn(COUNT, SIZE, SIZE, generator=generator, dtype=torch.float64)
    axes = torch.linalg.qr(turned).Q[chosen]
    minima = torch.randn(COUNT, SIZE, generator=generator, dtype=torch.float64)[chosen]
    hessians = (axes * torch.logspace(0, -math.log10(condition), SIZE, dtype=torch.float64)) @ axes.mT

    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        gradient = torch.einsum("nij,nj->ni", hessians, x - minima)
        return ((x - minima) * gradient).sum(1) / 2, gradient

    return function


def minimised(function: Function, evaluations: int, *, count: int = COUNT) -> Lbfgs:
    search = Lbfgs(torch.zeros(count, SIZE, dtype=torch.float64), function)
    for _ in range(evaluations):
        search.evaluate()
    return search


@pytest.mark.parametrize(("condition", "left"), [(1e2, 1e-12), (1e4, 1e-4)])
def test_it_reaches_the_minimum_far_sooner_than_gradient_descent(condition: float, left: float) -> None:
    function = quadratics(condition)
    descended = torch.zeros(COUNT, SIZE, dtype=torch.float64)
    begun, _ = function(descended)
    for _ in range(60):
        descended = descended - function(descended)[1]  # by 1 / the largest curvature: no longer step is safe
    found = minimised(function, 60)
    assert (found.loss < left * begun).all()
    assert (found.loss < 0.03 * function(descended)[0]).all()


def test_each_evaluation_asks_once_and_never_loses_ground() -> None:
    asked = 0
    function = quadratics(1e3)

    def counted(x: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal asked
        asked += 1
        return function(x)

    search = minimised(counted, 0)
    for evaluations in range(1, 40):
        before = search.loss
        search.evaluate()
        assert asked == 1 + evaluations
        assert (search.loss <= before).all()
    assert torch.equal(search.loss, function(search.best)[0])


@pytest.mark.parametrize("evaluations", [PAIRS, 3 * PAIRS])
def test_a_problem_goes_its_way_as_if_it_were_alone(evaluations: int) -> None:
    together = minimised(quadratics(1e4), evaluations)
    for index in range(COUNT):
        alone = minimised(quadratics(1e4, slice(index, index + 1)), evaluations, count=1)
        torch.testing.assert_close(alone.best[0], together.best[index], atol=1e-6, rtol=0)


def test_it_follows_a_curved_valley() -> None:
    """Rosenbrock's function, whose minimum of 0 is at (1, 1)."""

    def function(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.clone().requires_grad_()
        loss = (1 - x[:, 0]).square() + 100 * (x[:, 1] - x[:, 0].square()).square()
        (gradient,) = torch.autograd.grad(loss.sum(), x)
        return loss.detach(), gradient

    search = Lbfgs(torch.tensor([[-1.2, 1.0], [0.0, 0.0]], dtype=torch.float64), function)
    for _ in range(80):
        search.evaluate()
    torch.testing.assert_close(search.best, torch.ones(2, 2, dtype=torch.float64), atol=1e-3, rtol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_step_to_where_the_loss_is_no_number_is_shortened(value: float) -> None:
    function = quadratics(1e2)

    def walled(x: Tensor) -> tuple[Tensor, Tensor]:
        """Nothing is defined beyond a short distance from the best place so far."""
        loss, gradient = function(x)
        beyond = (x - search.best).norm(dim=1) > 0.3 if begun else torch.zeros(COUNT, dtype=torch.bool)
        return torch.where(beyond, value, loss), torch.where(beyond[:, None], value, gradient)

    begun = False
    search = minimised(walled, 0)
    begun, first = True, search.loss
    for _ in range(150):
        search.evaluate()
    assert torch.isfinite(search.best).all()
    assert torch.isfinite(search.loss).all()
    assert (search.loss < 1e-6 * first).all()


def test_a_problem_without_a_loss_stays_where_it_is_and_harms_no_other() -> None:
    function = quadratics(1e2)

    def hopeless(x: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = function(x)
        lost = torch.arange(COUNT) == 2
        return torch.where(lost, math.nan, loss), torch.where(lost[:, None], math.nan, gradient)

    found, undisturbed = minimised(hopeless, PAIRS), minimised(function, PAIRS)
    others = [0, 1, 3, 4, 5]
    assert torch.equal(found.best[2], torch.zeros(SIZE, dtype=torch.float64))
    torch.testing.assert_close(found.best[others], undisturbed.best[others])


def test_a_problem_that_begins_at_its_minimum_stays_there() -> None:
    search = Lbfgs(torch.zeros(2, 3), lambda x: (x.square().sum(1), 2 * x))
    for _ in range(10):
        search.evaluate()
    assert torch.equal(search.best, torch.zeros(2, 3))
    assert torch.equal(search.loss, torch.zeros(2))
