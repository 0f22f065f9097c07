"""The model and its fit: the pipeline from a design to results, on one screen."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from . import covariance, penalties
from . import splits as cross_fitting
from . import theta as surface
from .call import Call, arguments
from .constant import fit as constants
from .curvature import Curvature, EstimatedLaw, KnownLaw, Randomised, Regressed
from .design import Design
from .diagnostics import describe
from .errors import OptionError
from .goodness import goodness
from .influence import Scores
from .information import agreement, of_constants
from .law import Cells, FittedLaw
from .networks import MLP, Architecture
from .penalties import Penalty
from .progress import Bar
from .projection import Spare
from .results import Results
from .rows import Replicates
from .sampling import Sampling
from .seeds import generator
from .splits import Splits
from .structure import Structure, score_of
from .theta import LEARNERS, Options, Theta
from .threads import threads
from .trainers import LBFGS, Adam, AdamW, Trainer
from .units import Units, release

LARGE = 5000  # rows above which minibatches, and two networks for each fold, are as accurate and cheaper


@dataclass(frozen=True, repr=False, eq=False)
class Model:
    """A structural regression that is ready to fit. Made by `deepreg.structural`; frozen."""

    design: Design
    structure: Structure
    vcov: str
    assignment: KnownLaw | Randomised | None = None
    call: Call = field(default_factory=Call)
    penalty: Penalty | None = None  # of a fit with constant theta

    def __repr__(self) -> str:
        return f"<deepreg Model {self.design.formula!r}, family={self.structure.family.name!r}, not fitted>"

    def fit(
        self,
        *,
        folds: int = 5,
        members: int | None = None,
        repeats: int = 1,
        network: Architecture | None = None,
        trainer: Trainer | None = None,
        penalty: float = 1e-3,
        learners: Sequence[str] | None = None,
        hessian: str | Curvature | None = None,
        device: str = "auto",
        rng: int | np.random.Generator | np.random.SeedSequence | None = None,
        progress: bool | None = None,
        cov: str | Mapping[str, str] | None = None,
        start: Results | Mapping[str, float] | str | None = None,
        starts: int = 1,
        holdout: object = None,
        track: int | None = None,
    ) -> Results:
        """Fit theta(x) by cross-fitting and return the results; with no features, by Newton's method.

        folds : parts of the sample, each judged by networks trained on the others.
        members : networks averaged in each fold, with validation slices that rotate; by default 4, and 2 where
            there are more than 5,000 rows.
        repeats : independent cross-fits; estimates are medians over them.
        learners : what theta(x) is stacked from, of "constant", "smooth" (a smooth function of every feature),
            "additive" (those and products of two features that stand out), "uncentred" (the same for the treatment
            around its mean, where E[t | x] is another origin) and "network"; by default all of them.
        network : an architecture, by default MLP(hidden=(20, 20)) with a linear path.
        trainer : LBFGS(), AdamW() or Adam(); by default LBFGS(), and AdamW() where there are more than 5,000 rows.
            Without features it takes the place of Newton's method; with bounds only Adam() does.
        penalty : L2 penalty on the weights of the perceptron, at least 0; that of structural() is another thing.
        hessian : "estimated" (law of the treatment), "regressed", or a Curvature. Default: `assignment=` if given.
        device : "auto", "cpu", "cuda" or "cuda:1".
        rng : whatever numpy.random.default_rng accepts; the same value gives the same digits.
        progress : show a progress bar; by default on a terminal.
        cov : the covariance, in the place of `vcov` of the model; see `Results.vcov`.

        The others are for constant coefficients:

        start : a result, or values by the names of parameters, from where the search begins; with the penalty of
            structural() also "unpenalised", the fit without it, and by default the better minimum of those reached
            from there and from the start of the family.
        starts : begin from so many points, of which the first is `start` and the others are drawn around it by `rng`,
            and keep the lowest minimum.
        holdout : data whose mean loss is followed beside that of the rows of the fit, in `history`. They do not enter
            the fit, unless a trainer stops early by them: LBFGS(), AdamW() and Adam(patience=) do.
        track : keep the losses of one in so many steps of the trainer in `history`.

        Raises OptionError for an unknown option, DataError where the data cannot support the fit.
        """
        if cov is not None:
            design, kind = covariance.changed(self.design, self.structure, cov, None)
            self = replace(self, design=design, vcov=kind)
        varying = bool(self.design.inputs.shape[1] and self.structure.free)
        found: dict[str, Any] = {"start": start, "starts": starts, "holdout": holdout, "track": track}
        odd = [name for name, value in found.items() if (starts != 1 if name == "starts" else value is not None)]
        if varying and odd:
            raise OptionError(
                f"{odd[0]}= is for constant coefficients, and those of {self.design.formula!r} are functions of "
                "features. Leave it out; history and plot.training() show how networks were trained."
            )
        seed, shown = _seed(rng)
        chosen = _learners(learners)
        call = self.call._replace(fit=(*arguments(
            {"folds": folds, "members": members, "repeats": repeats, "network": network, "trainer": trainer,
             "penalty": penalty, "learners": chosen if learners is not None else None, "hessian": hessian,
             "device": device, "cov": cov, "starts": starts, "track": track},
            {"folds": 5, "repeats": 1, "penalty": 1e-3, "device": "auto", "starts": 1},
        ), *((name, name) for name in ("start", "holdout") if found[name] is not None),
           *((("rng", shown),) if varying or trainer is not None or starts != 1 else ())))  # fmt: skip
        again = self._again(
            folds=folds, members=members, repeats=repeats, network=network, trainer=trainer, penalty=penalty,
            learners=learners, hessian=hessian, device=device, rng=int(shown) if shown.lstrip("-").isdigit() else seed,
            **found,
        )  # fmt: skip
        place = _device(device)
        if not varying:
            return self._constant(place, trainer, torch.Generator().manual_seed(seed), progress, call, again, **found)
        trainer = _part("trainer", trainer, self._trainer(), "fit")
        network = _part("network", network, MLP(), "build")
        members = (2 if self.design.n > LARGE else 4) if members is None else members
        u, x, weight = self._tensors(place)
        draws = torch.Generator().manual_seed(seed)
        options = Options(chosen, network, trainer, _strength(penalty), place, draws)
        # raises where the fit without features does not exist
        self.structure.pooled(self.structure.standard(u).units, weight[None])
        curvature = _curvature(hessian, self.assignment, self.structure.family.lawful, self.design)
        splits = self._splits(folds, members, repeats, draws, curvature.three_way).to(place)
        with threads(len(x)), Bar(progress) as bar:
            options = replace(options, progress=bar.step)
            law, centre, fitted = self._learned(u, x, weight, splits, options, curvature, bar.stage)
            theta = fitted.held_out(x, splits, centre)
            release(len(x))
            bar.stage("Lambda(x)")
            nodes = None if law is None else law.nodes(x, splits)
            every = partial(fitted.values, x, centre)
            lam = curvature.inverse(self.structure, u, x, weight, theta, every, splits, nodes, options.nuisance)
        release(len(x))
        score = score_of(self.structure.family, u, theta)
        back = of_constants(self.structure, u, theta, weight, lam)
        spare = None
        if self.design.packing is not None and nodes is None and curvature.three_way:
            spare = Spare(every(), x, weight, splits)
        scores = Scores(
            self.structure, self.design, u, theta, score, lam.inverse, lam.turn, back, nodes, constant=False,
            spare=spare,
        )  # fmt: skip
        standard = self.structure.standard(u)
        constant = self.structure.pooled(standard.units, weight[None], splits.fitted).theta
        constant = constants.Place(self.structure, standard).back(constant)
        overlap = law.overlap(x, splits) if isinstance(law, FittedLaw) else None
        facts = describe(
            self.design, self.structure, options.network, curvature.label, shown, fitted, splits,
            loss={
                "homogeneous": self._loss(u, constant[splits.held_out], weight),
                "theta(x)": self._loss(u, theta, weight),
            },
            lam=lam, met=agreement(self.structure, u, theta, weight, lam), overlap=overlap, call=call,
            goodness=goodness(self.structure, u, theta, weight),
        )  # fmt: skip
        kept = law if isinstance(law, FittedLaw) and centre is not None else None
        sampling = self._sampling(1, place)
        return Results(self.design, self.structure, scores, sampling, facts, splits, fitted, kept, lam, overlap, again)

    def replicates(
        self, count: int, *, learners: Sequence[str] | None = None, network: Architecture | None = None,
        trainer: Trainer | None = None, penalty: float = 1e-3, hessian: str | Curvature | None = None,
        device: str = "auto", rng: int | np.random.Generator | np.random.SeedSequence | None = None,
    ) -> Replicates:  # fmt: skip
        """theta(x) again from so many random halves of the rows, an even number at least, learned together.

        Halves come in pairs that share no row; clusters stay whole. Of an estimator with an error of order n^(-1/2),
        the variance of the replicates around the fit to all rows is its own (the half-sampling of McCarthy 1969; Shao
        and Wu 1989). Options are those of `fit`. Raises OptionError where there are no features.
        """
        if not self.design.features:
            raise OptionError(
                "Replicates are of functions of features, and without them errors are those of averages: leave "
                "inference= out, or type inference='auto'."
            )
        draws = torch.Generator().manual_seed(_seed(rng)[0] + 1)  # not those of the fit
        u, x, weight = self._tensors(place := _device(device))
        network = _part("network", network, MLP(), "build")
        trainer = _part("trainer", trainer, self._trainer(), "fit")
        options = Options(_learners(learners), network, trainer, _strength(penalty), place, draws)
        curvature = _curvature(hessian, self.assignment, self.structure.family.lawful, self.design)
        splits = self._splits(2, 1, -(-count // 2), draws, False).to(place)
        with threads(len(x)):
            law, centre, fitted = self._learned(u, x, weight, splits, options, curvature, lambda name: None)
        return Replicates(fitted.plain(), law if isinstance(law, FittedLaw) and centre is not None else None)

    def _learned(
        self, u: Units, x: Tensor, weight: Tensor, splits: Splits, options: Options, curvature: Curvature,
        stage: Callable[[str], None],
    ) -> tuple[Any, Tensor | None, Theta]:  # fmt: skip
        """The law of the treatment, the origin E[d | x] that it gives, and theta(x), on the same splits."""
        stage("law of the treatment")
        law = curvature.law(self.design, x, splits, options.nuisance)
        centre = None
        if isinstance(law, FittedLaw) and law.everywhere and self.structure.absorbing:
            centre = law.centre(x, self.structure.slopes.to(x.device))
        p = self.design.x.shape[1]
        reads = (tuple(range(p)), tuple(range(p, x.shape[1])))
        stage("theta(x)")
        return law, centre, surface.fit(self.structure, u, x, weight, splits, options, centre, reads)

    def _tensors(self, place: torch.device) -> tuple[Units, Tensor, Tensor]:
        """Units, features with controls, and weights on the device."""
        design = self.design
        return Units(*(t.to(place) for t in design.units)), design.inputs.to(place), design.weight.to(place)

    def _trainer(self) -> Trainer:
        return AdamW() if self.design.n > LARGE else LBFGS()

    def _constant(
        self, place: torch.device, trainer: Trainer | None, generator: torch.Generator, progress: bool | None,
        call: Call, again: Callable[..., Results], *, start: Any, starts: int, holdout: object, track: int | None,
    ) -> Results:  # fmt: skip
        """No features: theta is constant."""
        for name, value in (("starts", starts), ("track", 1 if track is None else track)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise OptionError(f"{name}={value!r}: give a whole number, at least 1.")
        if start == "unpenalised" and self.penalty is None:
            raise OptionError("start='unpenalised' begins at the fit without a penalty: give structural(penalty=).")
        if not (start is None or start == "unpenalised" or isinstance(start, Results | Mapping)):
            raise OptionError(
                f"start= is {start!r:.80}; give a result, or values by names of parameters, or with a penalty "
                "'unpenalised'."
            )
        odd = {"trainer": trainer, "holdout": holdout, "track": track}
        if self.penalty is not None and (named := [name for name, value in odd.items() if value is not None]):
            raise OptionError(
                f"{named[0]}= follows the mean of losses that rows have on their own, which penalty={self.penalty!r} "
                "is none of. Leave it out; deepreg.fairness() and deepreg.tradeoff() judge by a holdout."
            )
        trainer = None if trainer is None else _part("trainer", trainer, Adam(), "fit")
        if trainer is not None and self.structure.bounds and not isinstance(trainer, Adam):
            raise OptionError(f"trainer={trainer!r} keeps no bounds; with bounds= leave trainer= out, or give Adam().")
        if trainer is not None and starts > 1:
            raise OptionError("starts= is for Newton's method; with trainer= fit several times, with start=.")
        u, _, weight = self._tensors(place)
        other = None if holdout is None else constants.held_out(self.design, self.structure, holdout)
        sampling = self._sampling(len(self.structure.names), place)
        with threads(self.design.n), Bar(progress) as bar:
            bar.stage("theta")
            options = constants.Options(trainer, start, starts, other, track, generator, bar.step, self.penalty)
            return constants.fit(self.design, self.structure, u, weight, sampling, call, options, again)

    def _again(self, **options: Any) -> "Again":
        """The same fit to a design with other features."""
        return Again(self, options)

    def _loss(self, u: Units, theta: Tensor, weight: Tensor) -> float:
        """Weighted mean loss, over rows and repeats."""
        return float((self.structure.family.loss(u, theta) * weight).sum() / weight.sum() / len(theta))

    def _sampling(self, parameters: int, device: torch.device) -> Sampling:
        kind = covariance.known(self.vcov, self.design, self.structure)
        weight, cluster = self.design.weight.to(device), self.design.cluster.to(device)
        return Sampling(weight, cluster, kind, parameters, covariance.ways(self.design))

    def _splits(self, folds: int, members: int, repeats: int, generator: torch.Generator, spare: bool) -> Splits:
        cluster = self.design.cluster[:, 0] if self.design.cluster.shape[1] else None
        code = Cells.of(self.design).code
        stratum = code if int(code.max()) > 0 and cluster is None else None
        return cross_fitting.make(
            self.design.n, folds=folds, members=members, repeats=repeats, generator=generator,
            cluster=cluster, stratum=stratum, spare=spare,
        )  # fmt: skip


@dataclass(frozen=True, repr=False, eq=False)
class Again:
    """A fit that can be repeated: to another design, with other options, or under another penalty."""

    model: Model
    options: Mapping[str, Any]

    @property
    def penalty(self) -> Penalty | None:
        return self.model.penalty

    def under(self, penalty: Penalty) -> "Again":
        """The same with this penalty. Raises OptionError or DataError where the fit cannot have it."""
        penalties.check(penalty, self.model.design, self.model.structure)
        structure = replace(self.model.structure, penalised=True)
        return replace(self, model=replace(self.model, structure=structure, penalty=penalty))

    def __call__(self, design: Design, **changed: Any) -> Results:
        return replace(self.model, design=design).fit(**{**self.options, **changed}, progress=False)


def _learners(given: Any) -> tuple[str, ...]:
    if given is None:
        return LEARNERS
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Sequence) else ()
    if not names or not set(names) <= set(LEARNERS) or len(set(names)) < len(names):
        raise OptionError(f"learners={given!r}: give one or more of {', '.join(map(repr, LEARNERS))}, each once.")
    return names


def _strength(penalty: Any) -> float:
    if not isinstance(penalty, int | float | np.number) or not 0 <= penalty < np.inf:
        raise OptionError(
            f"penalty={penalty!r}: this is the L2 penalty on the weights of networks; give a number, 0 or more. One of "
            "constant coefficients, such as deepreg.RateGap, is given to structural(penalty=)."
        )
    return float(penalty)


def _part(name: str, value: Any, default: Any, method: str) -> Any:
    """An option that is an object with a method of that name; its default for None."""
    if value is None:
        return default
    if isinstance(value, type | str) or not callable(getattr(value, method, None)):
        raise OptionError(f"{name}={value!r}: give an object, for example {default!r}.")
    return value


def _curvature(
    hessian: str | Curvature | None, assignment: KnownLaw | Randomised | None, lawful: bool, design: Design
) -> Curvature:
    if assignment is not None:
        if hessian is not None:
            raise OptionError("hessian= and assignment= both say how Lambda(x) is learned; give one of them.")
        return assignment
    if design.packing is not None and (hessian == "estimated" or isinstance(hessian, EstimatedLaw | KnownLaw)):
        raise OptionError(
            f"hessian={hessian!r} is the law of a treatment, but {design.formula!r} has choice sets. Leave it out (the "
            "Hessian is then regressed on x), or give deepreg.Randomised() where they were drawn independently of x."
        )
    regressed = hessian == "regressed" or isinstance(hessian, Regressed) or (hessian is None and not lawful)
    if regressed and design.units.offset.dim() and design.packing is None:
        raise OptionError(
            f"hessian={hessian or 'regressed'!r} averages over the offset, which effects hold at the value of each "
            "row. With offset= or exposure= leave hessian= out, or give assignment=, for a family that says its law."
        )
    if hessian == "regressed" or (hessian is None and (not lawful or design.packing is not None)):
        return Regressed()
    if hessian is None or hessian == "estimated":
        return EstimatedLaw()
    if isinstance(hessian, str):
        raise OptionError(f"hessian={hessian!r}: allowed are 'estimated', 'regressed', or a Curvature as an object.")
    return cast(Curvature, _part("hessian", hessian, Regressed(), "inverse"))


def _seed(rng: object) -> tuple[int, str]:
    """A seed for torch and how to name it; a fresh one is drawn, and shown so that the fit can be repeated."""
    if rng is None:
        rng = int(np.random.SeedSequence().generate_state(1)[0])
    drawn = int(generator(rng).integers(2**62))
    return drawn, str(rng) if isinstance(rng, int | np.integer) else type(rng).__name__


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not isinstance(name, str) or not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise OptionError(f"device={name!r}: allowed are 'auto', 'cpu', 'cuda' and 'cuda:N'.")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise OptionError(f"device={name!r}: this machine has no CUDA device; use device='auto' or 'cpu'.")
    return device
