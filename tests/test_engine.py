"""Networks, splits and trainers: exact gradients, exact batching, nothing learned from held-out rows."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from deepreg import coordinates
from deepreg import splits as cross_fitting
from deepreg import theta as surface
from deepreg.errors import DataError, OptionError
from deepreg.families import Gaussian, Linear, Logit, Poisson
from deepreg.networks import ACTIVATIONS, MLP, Partitioned, Replicated
from deepreg.structure import Pooled, Structure
from deepreg.trainers import LBFGS, AdamW, Problem
from deepreg.units import Units

LAYERS = [((), "silu", True), *product([(6,), (6, 4)], ACTIVATIONS, [True, False])]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def rows():
    """Linear data with a nonlinear theta(x): units, x, weight."""
    g = generator(1)
    x = torch.randn(300, 3, generator=g, dtype=torch.float64)
    t = (torch.rand(300, generator=g) < 0.5).double()
    noise = torch.randn(300, generator=g, dtype=torch.float64)
    y = x[:, 0] + (1 + torch.sin(x[:, 1])) * t + 0.5 * noise
    d = torch.stack([torch.ones_like(t), t], 1)
    return Units(y, d, torch.ones_like(y)), x, torch.ones_like(y)


def options(trainer=None, network=None):
    trainer, network = trainer or LBFGS(steps=40), network or MLP((6,))
    return surface.Options(("network",), network, trainer, 1e-3, torch.device("cpu"), generator(2))


@pytest.mark.parametrize(("hidden", "activation", "skip"), LAYERS)
def test_the_written_out_gradient_is_the_derivative_of_the_forward_pass(hidden, activation, skip):
    net = MLP(hidden, activation, skip).build(3, 2)
    weights = (net.init(4, generator()).double() + 0.1).requires_grad_()
    x = torch.randn(4, 5, 3, generator=generator(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda w: net.forward(w, x), weights)


def test_an_mlp_equals_the_same_layers_written_as_a_torch_module():
    net = MLP((6, 4), "tanh", skip=False).build(3, 2)
    own = Replicated(
        lambda p, k: nn.Sequential(nn.Linear(p, 6), nn.Tanh(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, k))
    )
    weights, x = net.init(2, generator()) + 0.1, torch.randn(2, 7, 3, generator=generator(1))
    transposed = [w.mT.flatten(1) if w.shape[1] > 1 else w.flatten(1) for w in net.split(weights)]
    torch.testing.assert_close(own.build(3, 2).forward(torch.cat(transposed, 1), x), net.forward(weights, x))


def test_replicated_modules_start_from_different_values_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    weights = Replicated(lambda p, k: nn.Linear(p, k)).build(3, 2).init(3, generator())
    assert torch.equal(before, torch.get_rng_state())
    assert len(torch.unique(weights[:, 0])) == 3


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(3), nn.Dropout(0.5)])
def test_layers_that_mix_rows_or_add_noise_are_refused(layer):
    with pytest.raises(OptionError, match=f"{type(layer).__name__}.*LayerNorm"):
        Replicated(lambda p, k: nn.Sequential(layer, nn.Linear(p, k))).build(3, 2)


def test_a_partitioned_network_moves_only_what_it_may():
    parts = (MLP((4,)).build(2, 3), MLP((4,)).build(3, 1))
    net = Partitioned(parts, ((0, 1), (0, 1, 2)), ((0, 1, 2), (0,)), 3)
    weights = net.init(1, generator()) + torch.randn(1, len(net.decay), generator=generator(3))
    x = torch.randn(1, 6, 3, generator=generator(1))
    moved = x.clone()
    moved[..., 2] += 1.0
    change = (net.forward(weights, moved) - net.forward(weights, x)).abs().amax((0, 1))
    assert change[0] > 1e-3 and (change[1:] == 0).all()


@pytest.mark.parametrize(
    "trainer", [LBFGS(steps=60, patience=1, tolerance=0.01), LBFGS(steps=40), AdamW(epochs=4, batch=32)]
)
def test_replicates_trained_together_equal_each_trained_alone(rows, trainer):
    u, x, weight = rows
    splits = cross_fitting.make(300, folds=2, members=2, repeats=1, generator=generator())
    splits = splits._replace(train=splits.train & (torch.arange(300) < 290))  # unequal sizes: padding has to be inert
    net = MLP((6,)).build(3, 2)
    initial = net.init(4, generator()).double()
    family = Linear()

    def at(replicates, chosen):
        units = Units(u.y[chosen], u.d[chosen], u.mask[chosen])
        return lambda out: family.loss(units, out)

    problem = Problem(net, x, at, weight)

    def fit(which):
        return trainer.fit(
            problem, initial[which], splits.train[which], splits.valid[which], 1e-3, generator=generator()
        )[0]

    together = fit(slice(None))
    alone = torch.cat([fit(slice(m, m + 1)) for m in range(4)])
    if isinstance(trainer, AdamW):  # minibatches are drawn for the longest replicate, so compare those of its length
        same = splits.train.sum(1) == splits.train.sum(1).max()
        together, alone = together[same], alone[same]
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-9)


def test_lbfgs_reaches_the_minimum_that_a_reference_optimiser_finds(rows):
    u, x, weight = rows
    everything = torch.ones(1, 300, dtype=torch.bool)
    net, penalty = MLP(()).build(3, 2), 0.0
    problem = Problem(net, x, lambda r, i: lambda out: Linear().loss(Units(u.y[i], u.d[i], u.mask[i]), out), weight)
    trainer = LBFGS(steps=30, patience=30, tolerance=1e-12)  # steepest descent would need far more
    fitted, _ = trainer.fit(
        problem, net.init(1, generator()).double(), everything, everything, penalty, generator=generator()
    )
    design = torch.cat([torch.ones(300, 1), x], 1)
    full = torch.cat([design, design * u.d[:, 1:]], 1).numpy()  # the interacted regression
    reference = np.linalg.lstsq(full, u.y.numpy(), rcond=None)[0]
    theta = net.forward(fitted, x[None])[0]
    np.testing.assert_allclose(theta[:, 0].numpy(), full[:, :4] @ reference[:4], atol=1e-5)


@pytest.mark.parametrize("trainer", [LBFGS(steps=25), AdamW(epochs=3)])
def test_held_out_rows_do_not_touch_the_networks_that_are_judged_on_them(rows, trainer):
    u, x, weight = rows
    splits = cross_fitting.make(300, folds=3, members=2, repeats=1, generator=generator())
    structure = Structure(Linear(), ("Intercept", "t"))
    first = surface.fit(structure, u, x, weight, splits, options(trainer))
    out = splits.fold[0] == 0
    y = u.y.clone()
    y[out] = y[out].roll(1)  # other outcomes for the held-out rows, with the same mean and scale
    second = surface.fit(structure, u._replace(y=y), x, weight, splits, options(trainer))
    mine = splits.owner == 0
    torch.testing.assert_close(first.coordinates.start[0], second.coordinates.start[0])
    torch.testing.assert_close(first.coordinates.transform[0], second.coordinates.transform[0])
    one, two = first.learners["network"].weights, second.learners["network"].weights
    torch.testing.assert_close(one[mine], two[mine])
    assert (one[~mine] - two[~mine]).abs().max() > 1e-2


def test_what_moves_a_level_never_turns_into_a_slope():
    root = torch.randn(1, 4, 4, generator=generator(), dtype=torch.float64)
    hessian = root @ root.mT + torch.eye(4)
    score = torch.eye(4, dtype=torch.float64)[None]
    transform, size = coordinates._metric(Pooled(torch.zeros(1, 4), hessian, score, torch.zeros(1)), levels=(0, 3))
    torch.testing.assert_close(transform.mT @ hessian @ transform, torch.eye(4, dtype=torch.float64)[None])
    assert (transform[0, [1, 2]][:, [0, 3]] == 0).all()
    torch.testing.assert_close(size**2, torch.linalg.inv(hessian).diagonal(dim1=1, dim2=2).mean(1))


def test_splits_partition_the_rows_and_members_rotate_their_validation_slices():
    splits = cross_fitting.make(203, folds=5, members=4, repeats=2, generator=generator())
    assert not (splits.train & splits.valid).any()
    for m, group in enumerate(splits.owner.tolist()):
        repeat, fold = divmod(group, 5)
        held = splits.fold[repeat] == fold
        assert torch.equal(splits.train[m] | splits.valid[m], ~held)
    for group in range(10):  # together the members' slices are the whole training part
        assert torch.equal(splits.valid[splits.owner == group].sum(0), (splits.fold[group // 5] != group % 5).long())
    sizes = torch.stack([f.bincount() for f in splits.fold])
    assert sizes.max() - sizes.min() <= 1
    assert not torch.equal(splits.fold[0], splits.fold[1])


def test_folds_are_even_within_strata_and_never_cut_a_cluster():
    stratum = (torch.arange(200) % 10 == 0).long()
    splits = cross_fitting.make(200, folds=5, members=1, repeats=1, generator=generator(), stratum=stratum)
    assert splits.fold[0][stratum == 1].bincount(minlength=5).tolist() == [4] * 5
    cluster = torch.randint(0, 40, (400,), generator=generator())
    splits = cross_fitting.make(400, folds=5, members=4, repeats=1, generator=generator(), cluster=cluster)
    for block in range(40):
        mine = cluster == block
        assert len(splits.fold[0][mine].unique()) == 1
        assert all(len(valid[mine].unique()) == 1 for valid in splits.valid)


@pytest.mark.parametrize(("clusters", "folds", "members"), [(4, 2, 1), (6, 2, 4), (10, 5, 4)])
def test_few_clusters_leave_no_network_without_rows(clusters, folds, members):
    for seed in range(10):
        cluster = torch.arange(300) % clusters
        splits = cross_fitting.make(
            300, folds=folds, members=members, repeats=1, generator=generator(seed), cluster=cluster
        )
        assert splits.train.any(1).all() and splits.valid.any(1).all()
        assert not (splits.train & splits.valid).any()
        held = splits.fold[0][None] == splits.owner[:, None]
        assert torch.equal(splits.train | splits.valid, ~held)


def test_the_spare_fold_of_a_three_way_split_is_neither_trained_on_nor_judged():
    splits = cross_fitting.make(100, folds=4, members=2, repeats=1, generator=generator(), spare=True)
    for m, group in enumerate(splits.owner.tolist()):
        assert not (splits.spare[group] & (splits.train[m] | splits.valid[m])).any()
        assert not (splits.spare[group] & (splits.fold[0] == group)).any()
    third = splits.on_spare()
    assert torch.equal(third.train | third.valid, splits.spare[splits.owner])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"folds": 1}, "folds=1"),
        ({"members": 0}, "members=0"),
        ({"repeats": 1.5}, "repeats=1.5"),
        ({"folds": 60}, "60 folds"),
    ],
)
def test_impossible_splits_say_what_to_give(change, words):
    with pytest.raises((OptionError, DataError), match=words):
        cross_fitting.make(100, **({"folds": 5, "members": 2, "repeats": 1, "generator": generator()} | change))


@pytest.mark.parametrize(
    "make",
    [
        lambda: MLP(hidden=(0,)),
        lambda: MLP(hidden=20),
        lambda: MLP(activation="sine"),
        lambda: MLP((), skip=False),
        lambda: LBFGS(steps=0),
        lambda: LBFGS(steps=10.5),
        lambda: AdamW(rate=-1.0),
        lambda: AdamW(epochs="a"),
    ],
)
def test_impossible_options_are_refused(make):
    with pytest.raises(OptionError):
        make()


def test_training_starts_at_the_homogeneous_fit_and_improves_on_it(rows):
    u, x, weight = rows
    splits = cross_fitting.make(300, folds=3, members=2, repeats=1, generator=generator())
    fitted = surface.fit(Structure(Linear(), ("Intercept", "t")), u, x, weight, splits, options())
    truth = torch.stack([x[:, 0], 1 + torch.sin(x[:, 1])], 1)
    error = [
        float(((surface.held_out(values, splits.held_out)[0] - truth) ** 2).mean())
        for values in (fitted.coordinates.values(torch.zeros(3, len(x), 2).double()), fitted.values(x))
    ]
    assert error[1] < 0.2 * error[0]
    lowest = fitted.history.valid.nan_to_num(torch.inf).min(0).values
    kept = fitted.history.valid.gather(0, fitted.history.best[None])[0]
    torch.testing.assert_close(kept, lowest, rtol=0, atol=2e-6)


@pytest.mark.parametrize("trainer", [LBFGS(steps=15), AdamW(epochs=5)])
@pytest.mark.parametrize("family", [Linear(), Gaussian(), Poisson()])
def test_the_history_holds_losses_in_the_units_of_the_outcome_without_the_penalty(rows, family, trainer):
    u, x, weight = rows
    u = u._replace(y=(u.y - u.y.min()) * 7)
    weight = weight * torch.linspace(0.5, 2, 300).double()
    splits = cross_fitting.make(300, folds=3, members=1, repeats=1, generator=generator())
    structure = Structure(family, ("Intercept", "t"))
    fitted = surface.fit(
        structure, u, x, weight, splits, replace(options(), learners=("network",), trainer=trainer, penalty=0.1)
    )
    history = fitted.history
    for rows_of, recorded in ((splits.train, history.train), (splits.valid, history.valid)):
        share = rows_of * weight / (rows_of * weight).sum(1, keepdim=True)
        if recorded is history.valid or isinstance(trainer, LBFGS):  # losses of minibatches precede their steps
            at_best = (family.loss(u, fitted.values(x)) * share).sum(1)
            torch.testing.assert_close(recorded.gather(0, history.best[None])[0], at_best, rtol=1e-4, atol=1e-4)


def test_the_order_of_rows_is_irrelevant(rows):
    u, x, weight = rows
    splits = cross_fitting.make(300, folds=3, members=2, repeats=1, generator=generator())
    order = torch.randperm(300, generator=generator(5))
    moved = splits._replace(
        train=splits.train[:, order], valid=splits.valid[:, order], fold=splits.fold[:, order],
        spare=splits.spare[:, order], slices=splits.slices[:, order],
    )  # fmt: skip
    structure = Structure(Linear(), ("Intercept", "t"))
    one = surface.held_out(surface.fit(structure, u, x, weight, splits, options()).values(x), splits.held_out)
    again = surface.fit(structure, u.each(lambda t: t[order]), x[order], weight, moved, options())
    two = surface.held_out(again.values(x[order]), moved.held_out)
    torch.testing.assert_close(one[:, order], two, rtol=0, atol=2e-2)


def test_pooled_newton_serves_several_weightings_at_once():
    g = generator()
    d = torch.cat([torch.ones(200, 1), torch.randn(200, 2, generator=g)], 1).double()
    y = (torch.rand(200, generator=g) < 0.4).double()
    u, structure = Units(y, d, torch.ones_like(y)), Structure(Logit(), ("Intercept", "a", "b"))
    weights = torch.rand(3, 200, generator=g).double()
    together = structure.pooled(u, weights)
    for j in range(3):
        torch.testing.assert_close(structure.pooled(u, weights[j : j + 1]).theta[0], together.theta[j])
