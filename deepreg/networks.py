"""Architectures of theta(x): M replicate networks held as one matrix of flat weights and evaluated as one batch."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from .errors import OptionError
from .seeds import generator

Activation = tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor, Tensor], Tensor]]

ACTIVATIONS: dict[str, Activation] = {  # h = f(z), and the gradient at z from (gradient at h, z, h)
    "silu": (nn.functional.silu, lambda g, z, h: torch.ops.aten.silu_backward(g, z)),
    "relu": (torch.relu, lambda g, z, h: torch.ops.aten.threshold_backward(g, z, 0)),
    "gelu": (nn.functional.gelu, lambda g, z, h: torch.ops.aten.gelu_backward(g, z)),
    "tanh": (torch.tanh, lambda g, z, h: torch.ops.aten.tanh_backward(g, h)),
}


class Network(Protocol):
    """An architecture bound to its number of inputs and outputs."""

    @property
    def decay(self) -> Tensor: ...  # (S,) 1 where the L2 penalty applies
    def init(self, replicates: int, generator: torch.Generator) -> Tensor: ...  # (M, S)
    def forward(self, weights: Tensor, x: Tensor) -> Tensor: ...  # (M, S), (M, B, p) -> (M, B, outputs)


class Architecture(Protocol):
    """A frozen configuration that builds a Network."""

    def build(self, inputs: int, outputs: int) -> Network: ...
    def describe(self) -> str: ...


@dataclass(frozen=True)
class MLP:
    """Multilayer perceptron with an optional linear path beside it: theta(x) = b + L x + W h(x).

    The linear path nests the fully interacted regression. Widths are units per hidden layer; no hidden layer and
    `skip=True` is a linear theta(x). Raises OptionError for a width below 1 or an unknown activation.

    >>> from deepreg.networks import MLP
    >>> MLP(hidden=(64, 64), activation="relu").describe()
    'MLP 64-64, relu + linear'
    """

    hidden: tuple[int, ...] = (20, 20)
    activation: str = "silu"
    skip: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.hidden, tuple) or any(not isinstance(h, int) or h < 1 for h in self.hidden):
            raise OptionError(f"MLP(hidden={self.hidden!r}): give a tuple of whole numbers above 0, e.g. (20, 20).")
        if self.activation not in ACTIVATIONS:
            raise OptionError(f"MLP(activation={self.activation!r}): allowed are {', '.join(ACTIVATIONS)}.")
        if not self.hidden and not self.skip:
            raise OptionError("MLP(hidden=(), skip=False) has nothing that varies with x; set skip=True.")

    def describe(self) -> str:
        layers = f"MLP {'-'.join(map(str, self.hidden))}, {self.activation}" if self.hidden else ""
        return " + ".join(part for part in (layers, "linear" if self.skip else "") if part)

    def build(self, inputs: int, outputs: int) -> "StackedMLP":
        return StackedMLP(self, inputs, outputs)


@dataclass(frozen=True)
class StackedMLP:
    """An MLP bound to its sizes. Flat weights are laid out layer by layer: matrix, bias; then output, bias, linear."""

    config: MLP
    inputs: int
    outputs: int

    def _shapes(self) -> list[tuple[int, int]]:
        widths = (self.inputs, *self.config.hidden)
        hidden = [s for a, b in itertools.pairwise(widths) for s in ((a, b), (1, b))]
        output = [(widths[-1], self.outputs)] if self.config.hidden else []
        linear = [(self.inputs, self.outputs)] if self.config.skip else []
        return [*hidden, *output, (1, self.outputs), *linear]

    @property
    def decay(self) -> Tensor:
        """1 on the weights of the perceptron, 0 on the linear path and the output's bias."""
        shapes, tail = self._shapes(), 2 if self.config.skip else 1
        free = len(shapes) - tail
        return torch.cat([torch.full((a * b,), float(i < free)) for i, (a, b) in enumerate(shapes)])

    def init(self, replicates: int, generator: torch.Generator) -> Tensor:
        """Random hidden layers of unit gain; the output starts near zero, so that theta starts at the pooled fit."""
        depth, parts = len(self.config.hidden), []
        for i, (a, b) in enumerate(self._shapes()):
            draw = torch.randn(replicates, a * b, generator=generator)
            if i < 2 * depth:
                draw = draw / math.sqrt(max(a, 1)) if i % 2 == 0 else 0.5 * draw
            else:
                draw = draw * (0.1 / math.sqrt(a) if depth and i == 2 * depth else 0.0)
            parts.append(draw)
        return torch.cat(parts, 1)

    def split(self, flat: Tensor) -> list[Tensor]:
        """Views of flat weights (M, S) as matrices (M, a, b), in layout order."""
        shapes = self._shapes()
        return [w.unflatten(1, s) for w, s in zip(flat.split([a * b for a, b in shapes], 1), shapes, strict=True)]

    def forward(self, weights: Tensor, x: Tensor) -> Tensor:
        return _Perceptron.apply(weights, x, self)


class _Perceptron(torch.autograd.Function):
    """Forward and backward of a StackedMLP by hand: twice as fast as recorded operations on small networks.

    Plain products with the bias added in place beat baddbmm, which first copies the broadcast bias.
    """

    @staticmethod
    def forward(ctx, weights: Tensor, x: Tensor, net: StackedMLP) -> Tensor:  # type: ignore[no-untyped-def]
        parts, layers = net.split(weights), len(net.config.hidden)
        act, h, kept = ACTIVATIONS[net.config.activation][0], x, []
        for i in range(layers):
            z = torch.bmm(h, parts[2 * i]).add_(parts[2 * i + 1])
            h = act(z)
            kept += [z, h]
        out = torch.bmm(h, parts[2 * layers]) if layers else torch.bmm(x, parts[-1])
        if layers and net.config.skip:
            out += torch.bmm(x, parts[-1])
        out += parts[2 * layers + 1] if layers else parts[0]
        ctx.net = net
        ctx.save_for_backward(weights, x, *kept)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
        net: StackedMLP = ctx.net
        weights, x, *kept = ctx.saved_tensors
        parts, layers = net.split(weights), len(net.config.hidden)
        slope = ACTIVATIONS[net.config.activation][1]
        bias = grad.sum(1, keepdim=True)
        tail = [bias, torch.bmm(x.mT, grad)] if net.config.skip else [bias]
        pieces: list[Tensor] = []
        if layers:
            tail.insert(0, torch.bmm(kept[-1].mT, grad))
            g = torch.bmm(grad, parts[2 * layers].mT)
            for i in reversed(range(layers)):
                g = slope(g, kept[2 * i], kept[2 * i + 1])
                below = kept[2 * i - 1] if i else x
                pieces = [torch.bmm(below.mT, g), g.sum(1, keepdim=True), *pieces]
                if i:
                    g = torch.bmm(g, parts[2 * i].mT)
        return torch.cat([piece.flatten(1) for piece in (*pieces, *tail)], 1), None, None


class StructuralNet(nn.Module):
    """One network x -> theta(x) as a torch module, for a training loop of your own.

    `architecture` is what fit(network=) takes; its weights are one vector. `rng` seeds them, without touching torch's
    global generator. forward maps (n, inputs) to (n, outputs), in single precision unless moved to another.

    >>> import torch
    >>> from deepreg.networks import MLP, StructuralNet
    >>> StructuralNet(10, 2, MLP(hidden=(64, 32)), rng=0)(torch.randn(100, 10)).shape
    torch.Size([100, 2])
    """

    def __init__(self, inputs: int, outputs: int, architecture: Architecture | None = None, rng: object = None) -> None:
        super().__init__()
        self.network = (MLP() if architecture is None else architecture).build(inputs, outputs)
        seed = int(generator(rng).integers(2**62))
        self.weights = nn.Parameter(self.network.init(1, torch.Generator().manual_seed(seed)))

    def forward(self, x: Tensor) -> Tensor:
        return self.network.forward(self.weights, x[None].to(self.weights))[0]


@dataclass(frozen=True)
class Partitioned:
    """The sum of networks, each reading some columns of the input and moving some columns of theta."""

    networks: tuple[Network, ...]
    reads: tuple[tuple[int, ...], ...]
    moves: tuple[tuple[int, ...], ...]
    outputs: int

    @property
    def decay(self) -> Tensor:
        return torch.cat([n.decay for n in self.networks])

    def init(self, replicates: int, generator: torch.Generator) -> Tensor:
        return torch.cat([n.init(replicates, generator) for n in self.networks], 1)

    def forward(self, weights: Tensor, x: Tensor) -> Tensor:
        total: Tensor | None = None
        pieces = weights.split([len(n.decay) for n in self.networks], 1)
        for network, piece, reads, moves in zip(self.networks, pieces, self.reads, self.moves, strict=True):
            place = torch.eye(self.outputs, dtype=x.dtype, device=x.device)[list(moves)]
            part = network.forward(piece, x[..., list(reads)]) @ place
            total = part if total is None else total + part
        assert total is not None
        return total


@dataclass(frozen=True)
class Replicated:
    """Any torch module as an architecture: `make(inputs, outputs)` returns one network, which is replicated.

    The module maps (B, inputs) to (B, outputs) row by row. Layers that mix rows (batch normalisation) would let
    held-out rows into training, and dropout has no place under inference: both raise OptionError.

    >>> from torch import nn
    >>> from deepreg.networks import Replicated
    >>> net = Replicated(lambda p, k: nn.Sequential(nn.Linear(p, 8), nn.LayerNorm(8), nn.SiLU(), nn.Linear(8, k)))
    """

    make: Callable[[int, int], nn.Module]

    def describe(self) -> str:
        return "own torch module"

    def build(self, inputs: int, outputs: int) -> "StackedModule":
        # make() draws its own initial values; a local copy of the generator keeps the caller's stream untouched
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            module = self.make(inputs, outputs)
        for layer in module.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm | nn.modules.dropout._DropoutNd):
                raise OptionError(
                    f"The network holds {type(layer).__name__}, which mixes rows or adds noise to the fit; "
                    "use LayerNorm, and weight decay (penalty=) instead of dropout."
                )
        return StackedModule(self, module, inputs, outputs)


@dataclass(frozen=True)
class StackedModule:
    """A torch module evaluated at M sets of flat weights by functional_call under vmap."""

    config: Replicated
    module: nn.Module
    inputs: int
    outputs: int

    @property
    def decay(self) -> Tensor:
        return torch.cat([torch.full((v.numel(),), float(v.dim() > 1)) for v in self.module.parameters()])

    def init(self, replicates: int, generator: torch.Generator) -> Tensor:
        seeds = torch.randint(2**62, (replicates,), generator=generator)
        with torch.random.fork_rng(devices=[]):
            rows = []
            for seed in seeds.tolist():
                torch.default_generator.manual_seed(seed)
                fresh = self.config.make(self.inputs, self.outputs)
                rows.append(torch.cat([v.detach().flatten() for v in fresh.parameters()]))
        return torch.stack(rows)

    def forward(self, weights: Tensor, x: Tensor) -> Tensor:
        named = list(self.module.named_parameters())
        flat = weights.split([v.numel() for _, v in named], 1)
        stacked = {k: w.unflatten(1, v.shape) for (k, v), w in zip(named, flat, strict=True)}

        def one(parameters: dict[str, Tensor], rows: Tensor) -> Tensor:
            return torch.func.functional_call(self.module, parameters, (rows,))

        return torch.vmap(one)(stacked, x)
