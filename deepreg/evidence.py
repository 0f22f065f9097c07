"""Empirical Bayes for functions linear in their coefficients: a variance for each group of them, by the evidence."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .units import blocks

_FREE = 1e-8  # precision of a coefficient without a prior
_SETTLED = 1e-4  # mean square by which what is added to the score, whose own is 1, may still change
_ROWS = 2048  # rows in a block of the sums over rows
_REACH = torch.tensor([torch.inf, 4.0, 1.0], dtype=torch.float64)  # factor by which one step may change a variance


class Target(NamedTuple):
    """A loss of outputs (G, n, P) over n rows, with its score and a positive semi-definite curvature."""

    value: Callable[[Tensor], Tensor]  # (G, n)
    derivatives: Callable[[Tensor], tuple[Tensor, Tensor]]  # (G, n, P) and (G, n, P, P)
    weight: Tensor  # (G, n), summing to the number of observations they are worth
    # what integrating out the coefficients of the regression adds to the score: outputs (G, b, P) at rows (b,), and
    # their covariances (G, b, P, P) -> (G, b, P); None where it adds nothing
    restriction: Callable[[Tensor, Tensor, slice], Tensor] | None = None


class Posterior(NamedTuple):
    """The covariance of the coefficients given the data and the penalties, for each of G sets of weights."""

    index: Tensor  # (G, m) the column of each coefficient, output by output
    sizes: tuple[int, ...]  # of the m, how many belong to each output
    covariance: Tensor  # (G, m, m), of zeros where a set uses fewer

    def of_outputs(self, columns: Tensor) -> Tensor:
        """The covariance of the outputs at rows of the columns; (b, q) -> (G, b, P, P)."""
        transposed, size = columns.T.contiguous(), len(self.sizes)
        parts = [transposed[index] for index in self.index.split(list(self.sizes), 1)]  # (G, m_i, b)
        ends = list(itertools.accumulate(self.sizes, initial=0))
        spans = [slice(a, b) for a, b in itertools.pairwise(ends)]
        found = columns.new_zeros(len(self.index), len(columns), size, size)
        for i, j in itertools.combinations_with_replacement(range(size), 2):
            both = ((self.covariance[:, spans[i], spans[j]] @ parts[j]) * parts[i]).sum(1)
            found[..., i, j] = found[..., j, i] = both
        return found


class Fit(NamedTuple):
    """Coefficients at the maximum of the evidence, for each of G sets of weights."""

    coefficient: Tensor  # (G, q, P)
    precision: Tensor  # (G, k, P) of each group of coefficients and column of the output
    gain: Tensor  # (G, k, P) twice the log evidence that the group adds
    posterior: Posterior
    restriction: Tensor | None = None  # (G, n, P) that was added to the score


def maximise(
    target: Target, columns: Tensor, place: Tensor, active: Tensor, before: Fit | None = None, steps: int = 20
) -> Fit:
    """Penalised fit of outputs = columns @ coefficient, with the penalties that maximise the evidence.

    columns is (n, q); place (q,) gives the group of each, of which group 0 is the unpenalised constant; active
    (G, k, P) says which groups move which outputs. Newton steps on the coefficients alternate with fixed-point steps on
    the variances (MacKay 1992; for penalised likelihoods Wood and Fasiolo 2017), all G at once. Where the loss is not
    quadratic a variance can run away with a step that the quadratic model got wrong. So a step that has to be shortened
    is not taken: the variances go back, change by at most a factor of 4 in the next one, and not at all if that fails.

    An ancillary parameter, such as the scale of the outcome, is fitted to the likelihood with the coefficients of the
    regression integrated out (Patterson and Thompson 1971): residuals are too small where a flexible mean has followed
    them, and a scale that shrinks with them would let it follow them further.
    """
    sets, groups, outputs = active.shape
    size = columns.shape[1]
    chosen = _Chosen.of(active, place)
    closed, count = ~active.flatten(1), chosen.sums(torch.ones_like(chosen.own, dtype=columns.dtype))
    precision = torch.full_like(count, 10.0)
    coefficient = columns.new_zeros(sets, size * outputs)
    if before is not None:
        precision[:, : before.precision[0].numel()] = before.precision.flatten(1)
        coefficient[:, : before.coefficient[0].numel()] = before.coefficient.flatten(1)
        coefficient *= active[:, place].flatten(1)
    free = torch.arange(groups * outputs, device=place.device) < outputs
    precision = torch.where(free, _FREE, precision.clamp(1e-6, 1e9))
    weight, total = target.weight, target.weight.sum(1)
    counted = (weight > 0)[..., None]  # rows of no weight may be anywhere, and overflow
    out = outputs_of(columns, coefficient.unflatten(1, (size, outputs)))
    level = torch.zeros(sets, dtype=torch.long, device=place.device)  # of caution, in each set
    added = torch.zeros_like(out) if target.restriction is not None else None
    settled = added is None
    for tries in range(24):
        before_step, reach = precision, _REACH.to(place.device)[level][:, None]
        safe = out.masked_fill(~counted, 0.0)
        score, curvature = target.derivatives(safe)
        gram, pull = _normal(columns, weight, score, curvature, out, chosen)
        if target.restriction is not None and added is not None:
            last, added = added, _restriction(target.restriction, columns, chosen, gram, precision, safe)
            settled = bool((((added - last) ** 2).sum(-1) * weight).sum(1).max() < _SETTLED * total.max())
            score, pull = score + added, pull - chosen.take(_along(columns, added * weight[..., None]).flatten(1))
        mean = torch.stack([
            (curvature[:, rows] * weight[:, rows, None, None]).sum(1) for rows in blocks(len(columns))
        ]).sum(0) / total[:, None, None]  # fmt: skip
        unit = torch.linalg.inv(mean)
        # of rank one, a row is one observation of all outputs; of full rank, P
        repeat = torch.zeros_like(total)
        for rows in blocks(len(columns)):
            turned = unit[:, None] @ curvature[:, rows]
            repeat += ((turned * turned.mT).sum((-1, -2)) * weight[:, rows]).sum(1)
        repeat = (repeat / total / outputs**2).clamp(1 / outputs, 1.0)
        for step in range(steps):
            ridge = chosen.spread(precision)
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram + torch.diag_embed(ridge)))
            found = (inverse @ pull[:, :, None])[:, :, 0]
            taken = (count - precision * chosen.sums(inverse.diagonal(dim1=1, dim2=2))).clamp_min(1e-9)
            full = chosen.put(found, size * outputs)
            if step % 4 == 0:  # it hardly moves in between
                moved = outputs_of(columns, full.unflatten(1, (size, outputs)))
                local = score + (curvature @ (moved - out)[..., None])[..., 0]
                spread = ((local @ unit * local).sum(-1) * weight).sum(1) / outputs
            noise = spread / (total - (taken * ~closed).sum(1) * repeat).clamp_min(1.0)
            new = noise[:, None] * taken / chosen.sums(found**2).clamp_min(1e-300)
            new = torch.where(free, _FREE, new.clamp(1e-6, 1e9))
            new = new.clamp(before_step / reach, before_step * reach)
            change = ((new.log() - precision.log()).abs() * (taken > 0.02) * ~closed).max()
            if change < 0.1 or step == steps - 1:
                break
            precision = new
        moved, there, whole, exact = _step(target, columns, chosen, coefficient, full, ridge, gram, added)
        refused = ~whole & (level < 2)
        coefficient = torch.where(refused[:, None], coefficient, moved)
        out = torch.where(refused[:, None, None], out, there)
        precision = torch.where(refused[:, None], before_step, precision)
        level = torch.where(refused, level + 1, level.clamp_max(1))
        if (settled and bool((exact & ~refused).all())) or (tries >= 7 and not bool(level.any())):
            break
    precision = torch.where(closed, 10.0, precision)  # where they start, should they come in
    return Fit(
        coefficient.unflatten(1, (size, outputs)),
        precision.unflatten(1, (groups, outputs)),
        (chosen.gain(inverse, found, precision, noise) * ~closed).unflatten(1, (groups, outputs)),
        chosen.posterior(inverse * noise[:, None, None], outputs),
        added,
    )


class _Chosen(NamedTuple):
    """The coefficients that each set uses, gathered to the front for each output; sets with fewer are padded."""

    index: Tensor  # (G, m) of the flat coefficients (q P), output by output
    real: Tensor  # (G, m) bool
    own: Tensor  # (G, m) group and output of each, flat
    sizes: list[int]  # of the m, how many belong to each output
    spots: Tensor  # (G, k P, width) positions among the m of the coefficients of each group and output
    filled: Tensor  # (G, k P, width) bool

    @classmethod
    def of(cls, active: Tensor, place: Tensor) -> "_Chosen":
        groups, outputs = active.shape[1:]
        used = active[:, place]  # (G, q, P)
        sizes: list[int] = used.sum(1).amax(0).tolist()
        order = used.to(torch.int8).argsort(dim=1, descending=True, stable=True)
        index = torch.cat([order[:, :most, i] * outputs + i for i, most in enumerate(sizes)], 1)
        real = used.flatten(1).gather(1, index)
        own = (place[:, None] * outputs + torch.arange(outputs, device=place.device)).flatten()
        position = torch.zeros_like(used.flatten(1), dtype=torch.long)
        position.scatter_(1, index, torch.arange(index.shape[1], device=place.device).expand_as(index))
        count = torch.bincount(own, minlength=groups * outputs)
        offset = torch.arange(int(count.max()), device=place.device)
        flat = own.argsort(stable=True)[((count.cumsum(0) - count)[:, None] + offset).clamp_max(len(own) - 1)]
        filled = (offset < count[:, None]) & used.flatten(1)[:, flat]  # (G, k P, width)
        return cls(index, real, own[index], sizes, torch.where(filled, position[:, flat], 0), filled)

    def posterior(self, covariance: Tensor, outputs: int) -> Posterior:
        both = self.real[:, :, None] & self.real[:, None, :]
        return Posterior(self.index // outputs, tuple(self.sizes), covariance * both)

    def take(self, values: Tensor) -> Tensor:
        return values.gather(1, self.index) * self.real

    def put(self, values: Tensor, size: int) -> Tensor:
        return values.new_zeros(len(values), size).scatter_add(1, self.index, values * self.real)

    def sums(self, values: Tensor) -> Tensor:
        """Sums over each group and output; (G, m) -> (G, k P)."""
        blank = values.new_zeros(len(values), self.filled.shape[1])
        return blank.scatter_add(1, self.own, values * self.real)

    def spread(self, values: Tensor) -> Tensor:
        return values.gather(1, self.own)

    def gain(self, inverse: Tensor, found: Tensor, precision: Tensor, noise: Tensor) -> Tensor:
        """Twice the log evidence that each group adds to the others for each output; (G, k P)."""
        each = torch.arange(len(found), device=found.device)[:, None, None, None]
        both = self.filled[..., :, None] & self.filled[..., None, :]
        block = torch.where(both, inverse[each, self.spots[..., :, None], self.spots[..., None, :]], 0.0)
        block = block + torch.diag_embed((~self.filled).to(block))
        value = torch.where(self.filled, found[each[..., 0], self.spots], 0.0)
        solved = torch.linalg.solve(block, value[..., None])[..., 0]
        gain = self.filled.sum(-1) * precision.log() + torch.linalg.slogdet(block)[1]
        return gain + (solved * value).sum(-1) / noise[:, None]


def outputs_of(columns: Tensor, coefficient: Tensor) -> Tensor:
    """Outputs of all sets in one product, which reads the columns once; (n, q) and (G, q, P) -> (G, n, P)."""
    together = columns @ coefficient.transpose(0, 1).flatten(1)
    return together.unflatten(1, coefficient[:, 0].shape).transpose(0, 1).contiguous()


def _along(columns: Tensor, values: Tensor) -> Tensor:
    """The columns' products with values of all sets; (n, q) and (G, n, P) -> (G, q, P)."""
    together = columns.T @ values.transpose(0, 1).flatten(1)
    return together.unflatten(1, values[:, 0].shape).transpose(0, 1)


def _step(
    target: Target, columns: Tensor, chosen: _Chosen, old: Tensor, new: Tensor, precision: Tensor, gram: Tensor,
    added: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """From old coefficients towards new ones, halving until the penalised loss falls.

    Returns them, the outputs, and for each set whether the step was taken whole, and whether the quadratic model that
    gave it was exact enough to stop.
    """
    shape = (columns.shape[1], old.shape[1] // columns.shape[1])

    def at(coefficient: Tensor) -> tuple[Tensor, Tensor]:
        out = outputs_of(columns, coefficient.unflatten(1, shape))
        penalty = 0.5 * (precision * chosen.take(coefficient) ** 2).sum(1)
        value = target.value(out)
        if added is not None:
            value = value + (added * out).sum(-1)
        value = value.masked_fill(target.weight == 0, 0.0)  # which may be infinite there
        return out, (value * target.weight).sum(1) + penalty

    start = at(old)[1]
    direction = chosen.take(new - old)
    bent = ((gram @ direction[:, :, None])[:, :, 0] + precision * direction) * direction
    fall = 0.5 * bent.sum(1)  # what the quadratic model promises
    length = torch.ones_like(start)
    for _ in range(20):
        coefficient = old + length[:, None] * (new - old)
        out, value = at(coefficient)
        worse = ~(value <= start + 1e-9 * start.abs() + 1e-3)
        if not bool(worse.any()):
            break
        length = torch.where(worse, 0.5 * length, length)
    whole = length == 1.0
    return coefficient, out, whole, whole & ((start - value - fall).abs() <= 1e-3 * fall + 1e-2)


def _restriction(
    add: Callable[[Tensor, Tensor, slice], Tensor], columns: Tensor, chosen: _Chosen, gram: Tensor, precision: Tensor,
    out: Tensor,
) -> Tensor:  # fmt: skip
    """What `add` gives for the covariances that the outputs have under the normal law at the current fit; (G, n, P)."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram + torch.diag_embed(chosen.spread(precision))))
    posterior, result = chosen.posterior(inverse, out.shape[-1]), torch.empty_like(out)
    for rows in blocks(len(columns), _ROWS):
        result[:, rows] = add(out[:, rows], posterior.of_outputs(columns[rows]), rows)
    return result


def _normal(
    columns: Tensor, weight: Tensor, score: Tensor, curvature: Tensor, out: Tensor, chosen: _Chosen
) -> tuple[Tensor, Tensor]:
    """Hessian (G, m, m), with ones where there is padding, and right-hand side (G, m) of the Newton system."""
    sets, rows, outputs = score.shape
    pull = ((curvature @ out[..., None])[..., 0] - score) * weight[..., None]  # (G, n, P)
    right = chosen.take(_along(columns, pull).flatten(1))
    gram = columns.new_zeros(sets, *2 * chosen.index.shape[1:])
    own = [index // outputs for index in chosen.index.split(chosen.sizes, 1)]  # columns of each output, (G, m_i)
    ends = list(itertools.accumulate(chosen.sizes, initial=0))
    spans = [slice(a, b) for a, b in itertools.pairwise(ends)]
    for block in blocks(rows, _ROWS):
        transposed = columns[block].T.contiguous()
        parts = [transposed[index] for index in own]  # (G, m_i, b)
        scaled = (curvature[:, block] * weight[:, block, None, None]).permute(0, 2, 3, 1)  # (G, P, P, b)
        for i, j in itertools.combinations_with_replacement(range(outputs), 2):
            gram[:, spans[i], spans[j]] += (parts[i] * scaled[:, i, j, None]) @ parts[j].mT
    for i, j in itertools.combinations(range(outputs), 2):
        gram[:, spans[j], spans[i]] = gram[:, spans[i], spans[j]].mT
    both = chosen.real[:, :, None] & chosen.real[:, None, :]
    return gram * both + torch.diag_embed((~chosen.real).to(gram)), right


def tail(gain: Tensor) -> Tensor:
    """P-value of a variance at the edge of its range: half the tail of chi-squared with one degree of freedom."""
    return 0.5 * torch.special.erfc((gain.clamp_min(0) / 2).sqrt())


def surprise(columns: Tensor, place: Tensor, groups: int, score: Tensor, weight: Tensor) -> Tensor:
    """P-values of score tests of each group of columns for each output, robust to heteroskedasticity; (G, k, P)."""
    scores = score * weight[..., None]
    member = torch.nn.functional.one_hot(place, groups).to(columns)  # (q, k)
    square, variance = _along(columns, scores) ** 2, _along(columns**2, scores**2)  # (G, q, P)
    return _chi2(member.T @ square, member.T @ variance, member.T @ variance**2)


def surprise_of_products(columns: Tensor, owner: Tensor, pairs: Tensor, score: Tensor, weight: Tensor) -> Tensor:
    """P-values of score tests of the products of two features' columns (n, a); (G, pairs, P)."""
    scores = (score * weight[..., None]).permute(0, 2, 1).float()  # (G, P, n); single precision is ample for a test
    size, (sets, outputs, _) = columns.shape[1], scores.shape
    total, variance = (scores.new_zeros(sets * outputs * size, size) for _ in range(2))
    for b, s in zip(columns.float().split(_ROWS), scores.split(_ROWS, 2), strict=True):
        total += (b.T * s[:, :, None, :]).flatten(0, 2) @ b
        variance += (b.T**2 * s[:, :, None, :] ** 2).flatten(0, 2) @ b**2
    member = torch.nn.functional.one_hot(owner).to(columns)  # (a, p)

    def by_pair(entries: Tensor) -> Tensor:
        summed = member.T @ entries.to(member).unflatten(0, (sets, outputs, size)) @ member  # (G, P, p, p)
        return summed[:, :, pairs[:, 0], pairs[:, 1]].mT

    return _chi2(by_pair(total**2), by_pair(variance), by_pair(variance**2))


def _chi2(square: Tensor, mean: Tensor, power: Tensor) -> Tensor:
    """Tail of a weighted sum of chi-squared variables matched in mean and variance (Satterthwaite 1946)."""
    freedom = (mean**2 / power.clamp_min(1e-300)).clamp_min(0.5)
    return torch.where(
        mean > 0, torch.special.gammaincc(freedom / 2, freedom / 2 * square / mean.clamp_min(1e-300)), 1.0
    )


def discoveries(p: Tensor, tested: Tensor, level: float) -> Tensor:
    """Benjamini and Hochberg (1995) along axis 1, among the tested; (G, k, P) bool."""
    p = torch.where(tested, p, torch.inf)
    ordered, order = p.sort(dim=1)
    rank = torch.arange(1, p.shape[1] + 1, device=p.device)[None, :, None]
    passes = ordered <= level * rank / tested.sum(1, keepdim=True).clamp_min(1)
    last = (passes * rank).amax(1, keepdim=True)
    return torch.zeros_like(tested).scatter(1, order, rank.expand_as(order) <= last) & tested
