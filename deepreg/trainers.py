"""Minimisers of many networks at once: full-batch L-BFGS, and AdamW on minibatches, with early stopping for each."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .errors import OptionError
from .networks import Network

Loss = Callable[[Tensor], Tensor]  # (m, B, P) -> (m, B)
Progress = Callable[[int, int], None]  # (steps done, steps at most)


class Problem(NamedTuple):
    """What a trainer minimises: a network on x and a loss of its outputs, for given replicates and rows."""

    network: Network
    x: Tensor  # (n, p)
    at: Callable[[Tensor, Tensor], Loss]  # replicates (m,), rows (m, B) -> loss of outputs (m, B, P)
    weight: Tensor  # (n,)
    inside: Callable[[Tensor], Tensor] | None = None  # (m, S) -> the nearest weights that are allowed, if not all are


class History(NamedTuple):
    """How the replicates went: one column each."""

    train: Tensor  # (steps, M) loss on the training rows, as they pass in minibatches; NaN after a replicate has left
    valid: Tensor  # (steps, M) loss on the validation rows; neither has the penalty in it
    best: Tensor  # (M,) step whose weights were kept
    limited: Tensor  # (M,) bool: the limit on steps came before early stopping


class Trainer(Protocol):
    """Fits all replicates: initial weights (M, S) to fitted weights (M, S)."""

    def fit(
        self, problem: Problem, weights: Tensor, train: Tensor, valid: Tensor, penalty: float, *,
        generator: torch.Generator, progress: Progress | None = None,
    ) -> tuple[Tensor, History]: ...  # fmt: skip


def _rows(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the true entries of each row, padded; (M, n) bool -> (M, B) int and (M, B) bool."""
    count = mask.sum(1)
    index = torch.zeros(len(mask), int(count.max()), dtype=torch.int32, device=mask.device)
    for one, filled in zip(index, mask, strict=True):  # all at once would need four times the memory for a moment
        found = filled.nonzero()[:, 0]
        one[: len(found)] = found
    return index, torch.arange(index.shape[1], device=mask.device) < count[:, None]


class _Block(NamedTuple):
    x: Tensor  # (m, b, p)
    loss: Loss
    weight: Tensor  # (m, b)


class _Slice(NamedTuple):
    """The rows of some replicates, gathered once and cut into blocks whose activations stay in the cache."""

    blocks: list[_Block]

    @classmethod
    def of(cls, problem: Problem, replicates: Tensor, mask: Tensor) -> "_Slice":
        return cls(list(_blocks(problem, replicates, mask, whole=mask.is_cuda)))

    def value(self, network: Network, weights: Tensor) -> Tensor:
        """Mean loss of each replicate; (m, S) -> (m,)."""
        return _value(self.blocks, network, weights)

    def gradient(self, network: Network, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss (m,) and its gradient (m, S)."""
        at = weights.detach().requires_grad_(True)
        value, total = torch.zeros_like(at[:, 0]), torch.zeros_like(at)
        for block in self.blocks:
            part = _loss(block, network, at)
            total += torch.autograd.grad(part.sum(), at)[0]
            value += part.detach()
        return value.detach(), total


_CACHED = 32768  # network-rows in a block


def _blocks(problem: Problem, replicates: Tensor, mask: Tensor, whole: bool = False) -> Iterator[_Block]:
    """The rows of some replicates, gathered block by block; with `whole`, as one block."""
    rows, present = _rows(mask[replicates])
    weight = problem.weight[rows] * present
    weight = weight / weight.sum(1, keepdim=True)  # sums to 1 in each replicate
    size = rows.shape[1] if whole else max(256, _CACHED // len(replicates))
    for r, w in zip(rows.split(size, 1), weight.split(size, 1), strict=True):
        yield _Block(problem.x[r], problem.at(replicates, r), w)


def _value(blocks: Iterable[_Block], network: Network, weights: Tensor) -> Tensor:
    """Mean loss of each replicate; (m, S) -> (m,)."""
    with torch.no_grad():
        return torch.stack([_loss(block, network, weights) for block in blocks]).sum(0)


def _loss(block: _Block, network: Network, weights: Tensor) -> Tensor:
    return (block.loss(network.forward(weights, block.x)) * block.weight).sum(1)


class _Best:
    """The weights with the lowest validation loss so far, for each replicate."""

    def __init__(self, weights: Tensor, tolerance: float) -> None:
        m = len(weights)
        self.weights, self.tolerance = weights.clone(), tolerance
        self.loss = torch.full((m,), math.inf, dtype=weights.dtype, device=weights.device)
        self.step = torch.zeros(m, dtype=torch.long, device=weights.device)

    def offer(self, who: Tensor, step: int, weights: Tensor, loss: Tensor) -> Tensor:
        """Keep what is better; returns how many steps ago each of `who` last improved."""
        better = loss < self.loss[who] - self.tolerance
        winners = who[better]
        self.weights[winners], self.loss[winners], self.step[winners] = weights[better], loss[better], step
        return step - self.step[who]


def _positive(owner: str, whole: Mapping[str, Any], real: Mapping[str, Any]) -> None:
    for name, value in (*whole.items(), *real.items()):
        kind, words = (int, "a whole number") if name in whole else (int | float, "a number")
        if isinstance(value, bool) or not isinstance(value, kind) or not value > 0:
            raise OptionError(f"{owner}({name}={value!r}): give {words} above 0.")


@dataclass(frozen=True)
class LBFGS:
    """Full-batch L-BFGS on all replicates at once (Liu and Nocedal 1989), one history and step length for each.

    Every replicate keeps the weights of its lowest validation loss and leaves the batch after `patience` steps
    without a better one. Right for n up to some ten thousand rows. Raises OptionError for a value not above 0.
    """

    steps: int = 300
    patience: int = 10
    history: int = 10
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        _positive(
            "LBFGS",
            {"steps": self.steps, "patience": self.patience, "history": self.history},
            {"tolerance": self.tolerance},
        )

    def fit(
        self, problem: Problem, weights: Tensor, train: Tensor, valid: Tensor, penalty: float, *,
        generator: torch.Generator, progress: Progress | None = None,
    ) -> tuple[Tensor, History]:  # fmt: skip
        network, decay = problem.network, penalty * problem.network.decay.to(weights)
        who = torch.arange(len(weights), device=weights.device)
        best, losses, checks = _Best(weights, self.tolerance), [], []
        fitted, checked = _Slice.of(problem, who, train), _Slice.of(problem, who, valid)

        def evaluate(at: Tensor, some: Tensor | None = None) -> tuple[Tensor, Tensor]:
            rows = fitted if some is None else _Slice.of(problem, who[some], train)
            value, gradient = rows.gradient(network, at)
            return value + 0.5 * (decay * at**2).sum(1), gradient + decay * at

        w = weights
        value, gradient = evaluate(w)
        memory: list[tuple[Tensor, Tensor, Tensor]] = []  # steps (m, S), gradient changes (m, S), 1 / s'y (m,)
        since = torch.zeros(len(who), dtype=torch.long, device=w.device)
        for step in range(self.steps):
            check = checked.value(network, w)
            since = best.offer(who, step, w, check)
            losses.append(_scatter(value - 0.5 * (decay * w**2).sum(1), who, len(weights)))
            checks.append(_scatter(check, who, len(weights)))
            if progress is not None:
                progress(step + 1, self.steps)
            going = since < self.patience
            if not bool(going.any()):
                break
            if not bool(going.all()):  # who has stopped leaves, and could not come back with better luck later
                who, w, value, gradient, since = who[going], w[going], value[going], gradient[going], since[going]
                memory = [(s[going], y[going], r[going]) for s, y, r in memory]
                fitted, checked = _Slice.of(problem, who, train), _Slice.of(problem, who, valid)
            direction = _two_loop(gradient, memory)
            slope = (gradient * direction).sum(1)
            uphill = slope > -1e-12
            direction = torch.where(uphill[:, None], -gradient, direction)
            slope = torch.where(uphill, -(gradient**2).sum(1), slope)
            length = torch.ones_like(value) if memory else (1 / gradient.norm(dim=1)).clamp(max=1.0)
            new, new_value, new_gradient = _search(evaluate, w, value, gradient, direction, slope, length)
            s, y = new - w, new_gradient - gradient
            sy = (s * y).sum(1)
            memory = [*memory, (s, y, torch.where(sy > 1e-10, 1 / sy.clamp_min(1e-10), 0.0))][-self.history :]
            w, value, gradient = new, new_value, new_gradient
        limited = torch.zeros(len(weights), dtype=torch.bool, device=w.device)
        limited[who] = since < self.patience
        return best.weights, History(torch.stack(losses), torch.stack(checks), best.step, limited)


def _scatter(values: Tensor, who: Tensor, replicates: int) -> Tensor:
    return values.new_full((replicates,), math.nan).index_copy(0, who, values)


def _two_loop(gradient: Tensor, memory: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Minus the quasi-Newton step (Nocedal and Wright 2006, algorithm 7.4), for each replicate; (m, S) -> (m, S)."""
    q, coefficients = gradient.clone(), []
    for s, y, r in reversed(memory):
        a = r * (s * q).sum(1)
        q -= a[:, None] * y
        coefficients.append(a)
    if memory:
        s, y, r = memory[-1]
        gamma = (s * y).sum(1) / (y * y).sum(1).clamp_min(1e-12)
        q *= torch.where(r > 0, gamma, 1.0).clamp(1e-4, 1e4)[:, None]
    for (s, y, r), a in zip(memory, reversed(coefficients), strict=True):
        q += (a - r * (y * q).sum(1))[:, None] * s
    return -q


def _search(
    evaluate: Callable[..., tuple[Tensor, Tensor]],
    w: Tensor, value: Tensor, gradient: Tensor, direction: Tensor, slope: Tensor, length: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Backtrack each replicate until its loss falls enough (Armijo); one that never does stays where it is.

    The full step is tried for all at once; only the replicates that refuse it are evaluated again.
    """
    new = w + length[:, None] * direction
    new_value, new_gradient = evaluate(new)
    todo = (~(new_value <= value + 1e-4 * length * slope)).nonzero()[:, 0]
    for _ in range(10):
        if not len(todo):
            return new, new_value, new_gradient
        length[todo] *= 0.4
        trial = w[todo] + length[todo, None] * direction[todo]
        trial_value, trial_gradient = evaluate(trial, todo)
        new[todo], new_value[todo], new_gradient[todo] = trial, trial_value, trial_gradient
        todo = todo[~(trial_value <= value[todo] + 1e-4 * length[todo] * slope[todo])]
    new[todo], new_value[todo], new_gradient[todo] = w[todo], value[todo], gradient[todo]
    return new, new_value, new_gradient


@dataclass(frozen=True)
class AdamW:
    """AdamW on minibatches with a one-cycle learning rate (Loshchilov and Hutter 2019), all replicates at once.

    `batch` is rows per replicate and step; None chooses it, and the number of epochs, from the sample size. A replicate
    keeps the weights of the epoch with its lowest validation loss and training ends when all are `patience` epochs past
    theirs. Raises OptionError for a value not above 0.
    """

    epochs: int | None = None
    batch: int | None = None
    rate: float = 1e-2
    patience: int = 15
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        given = {"epochs": self.epochs, "batch": self.batch, "patience": self.patience}
        _positive(
            "AdamW",
            {name: value for name, value in given.items() if value is not None},
            {"rate": self.rate, "tolerance": self.tolerance},
        )

    def fit(
        self, problem: Problem, weights: Tensor, train: Tensor, valid: Tensor, penalty: float, *,
        generator: torch.Generator, progress: Progress | None = None,
    ) -> tuple[Tensor, History]:  # fmt: skip
        network, who = problem.network, torch.arange(len(weights), device=weights.device)
        rows, present = _rows(train)
        total = torch.stack([problem.weight[mine].sum() for mine in train])
        size, epochs = self._schedule(rows.shape[1])
        per_epoch = rows.shape[1] // size
        w, decay = weights.clone(), penalty * network.decay.to(weights)
        first, second, step = torch.zeros_like(w), torch.zeros_like(w), 0
        best, losses, checks = _Best(weights, self.tolerance), [], []
        stopped = torch.zeros(len(who), dtype=torch.bool, device=w.device)
        seen = torch.full_like(w[:, 0], math.nan)
        for epoch in range(epochs + 1):
            check = _value(_blocks(problem, who, valid), network, w)  # gathered anew: kept, it would be a copy
            losses.append(seen)
            checks.append(check)
            since = best.offer(who, epoch, w, torch.where(stopped, math.inf, check))
            stopped |= since >= self.patience
            if progress is not None:
                progress(epoch, epochs)
            if epoch == epochs or bool(stopped.all()):
                break
            seen = torch.zeros_like(seen)
            order = torch.randperm(rows.shape[1], generator=generator).to(w.device)
            for batch in order[: per_epoch * size].split(size):
                chosen = rows[:, batch]
                share = problem.weight[chosen] * present[:, batch] / total[:, None] * rows.shape[1]  # mean 1
                w.requires_grad_(True)
                loss = problem.at(who, chosen)(network.forward(w, problem.x[chosen]))
                mean = (loss * share).mean(1)
                gradient = torch.autograd.grad(mean.sum(), w)[0]
                w = w.detach()
                gradient.addcmul_(decay, w)
                seen += mean.detach() / per_epoch
                step += 1
                first.lerp_(gradient, 0.1)
                second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
                rate = self.rate * _one_cycle(step / (epochs * per_epoch)) / (1 - 0.9**step)
                w.addcdiv_(first, second.div(1 - 0.999**step).sqrt_().add_(1e-8), value=-rate)
        limited = torch.zeros_like(stopped)  # the rate ends at 0: the last epoch is where training was meant to end
        return best.weights, History(torch.stack(losses), torch.stack(checks), best.step, limited)

    def _schedule(self, rows: int) -> tuple[int, int]:
        """Rows in a minibatch, and epochs: the more training rows, the more steps and the fewer epochs."""
        batch = self.batch or 2 ** int(math.log2(max(3.5 * math.sqrt(rows), 64)))
        return min(batch, rows), self.epochs or min(60, max(2, math.ceil(4 * (60_000 / rows) ** 0.57)))


@dataclass(frozen=True)
class Adam:
    """Full-batch Adam (Kingma and Ba 2015) with a rate that falls to 0 along a cosine, all replicates at once.

    For losses and links that are not smooth, or to watch a fit go: Newton's method, which fits constant coefficients
    without a trainer, is faster and ends at a minimum. Weights with bounds are put back inside after every step. A
    replicate keeps its last weights; with `patience` those of its lowest validation loss, and training ends when all
    are so many steps past theirs. Raises OptionError for a value not above 0.

    >>> import deepreg
    >>> deepreg.Adam(steps=500, rate=0.05)
    Adam(steps=500, rate=0.05, patience=None)
    """

    steps: int = 2000
    rate: float = 0.05
    patience: int | None = None

    def __post_init__(self) -> None:
        whole = {"steps": self.steps} | ({} if self.patience is None else {"patience": self.patience})
        _positive("Adam", whole, {"rate": self.rate})

    def fit(
        self, problem: Problem, weights: Tensor, train: Tensor, valid: Tensor, penalty: float, *,
        generator: torch.Generator, progress: Progress | None = None,
    ) -> tuple[Tensor, History]:  # fmt: skip
        network, who = problem.network, torch.arange(len(weights), device=weights.device)
        decay, inside = penalty * network.decay.to(weights), problem.inside
        fitted = _Slice.of(problem, who, train)
        checked = fitted if valid is train else _Slice.of(problem, who, valid)
        w, best, losses, checks = weights.clone(), _Best(weights, 0.0), [], []
        first, second = torch.zeros_like(w), torch.zeros_like(w)
        stopped = torch.zeros(len(who), dtype=torch.bool, device=w.device)
        for step in range(self.steps + 1):
            value, gradient = fitted.gradient(network, w)
            losses.append(value)
            checks.append(value if checked is fitted else checked.value(network, w))
            since = best.offer(who, step, w, torch.where(stopped, math.inf, checks[-1]))
            if self.patience is not None:
                stopped |= since >= self.patience
            if progress is not None:
                progress(step, self.steps)
            if step == self.steps or bool(stopped.all()):
                break
            gradient = gradient + decay * w
            first.lerp_(gradient, 0.1)
            second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            rate = 0.5 * self.rate * (1 + math.cos(math.pi * step / self.steps)) / (1 - 0.9 ** (step + 1))
            w = w - rate * first / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
            w = w if inside is None else inside(w)
        kept, at = (best.weights, best.step) if self.patience is not None else (w, torch.full_like(best.step, step))
        limited = ~stopped if self.patience is not None else torch.zeros_like(stopped)
        return kept, History(torch.stack(losses), torch.stack(checks), at, limited)


def _one_cycle(done: float) -> float:
    """The learning rate, relative to its peak, after a share of all steps (Smith and Topin 2019)."""
    if done < 0.3:
        return 1 - 0.48 * (1 + math.cos(math.pi * done / 0.3))
    return 0.5 * (1 + math.cos(math.pi * (done - 0.3) / 0.7))
