"""What a fit says of itself: header, diagnostics and notes of a structural regression."""

import re
from collections.abc import Mapping

from .call import Call
from .design import Design
from .goodness import Goodness
from .information import Lambda
from .law import Overlap
from .networks import Architecture
from .splits import Splits
from .structure import Structure
from .summary import Facts
from .theta import Theta


def _factors(columns: tuple[str, ...]) -> str:
    """The columns by the factors they come from: C(g)[1] and C(g)[2] are C(g)."""
    return " + ".join(dict.fromkeys(re.sub(r"\[[^\[\]]*\]", "", name) for name in columns))


def _stacked(structure: Structure, fitted: Theta) -> list[tuple[str, str]]:
    """The weight of each learner in every column of theta that varies, where there are few enough to read."""
    if len(structure.names) > 6:
        return []
    return [
        (name, ", ".join(f"{learner} {share[j]:.2f}" for learner, share in fitted.mix.items() if share[j] > 0.005))
        for j, name in enumerate(structure.names)
        if j in structure.free
    ]


def instrumented(structure: Structure) -> list[tuple[str, str]]:
    """The line of the header that names the instruments, where there are some."""
    if structure.instruments is None:
        return []
    terms = structure.instruments.terms
    head = "Instrument:" if len(terms) == 1 else "Instruments:"
    return [(head, f"{', '.join(terms)} for {', '.join(structure.family.labels[1:])}")]


def describe(
    design: Design, structure: Structure, network: Architecture, curvature: str, rng: str, fitted: Theta,
    splits: Splits, loss: Mapping[str, float], lam: Lambda, met: tuple[float, float], overlap: Overlap | None,
    goodness: Goodness, call: Call,
) -> Facts:  # fmt: skip
    """Facts in the order a reader asks for them: what was fitted, whether it helped, how far it can be trusted."""
    repeats = len(splits.fold)
    folds, members = splits.groups // repeats, len(splits.owner) // splits.groups
    header = [
        ("Features:", _factors(design.features)),
        *((("Constant:", ", ".join(structure.constant)),) if structure.constant else ()),
        ("Learners:", ", ".join(fitted.mix)),
        *((("Network:", network.describe()),) if "network" in fitted.mix else ()),
        ("Folds, members, repeats:", f"{folds} x {members} x {repeats}"),
        ("Lambda(x):", curvature),
        ("rng:", rng),
        ("Rows are:", "averages of theta(x)"),
    ]
    header[:0] = instrumented(structure)
    if design.controls:
        header.insert(1, ("Controls:", _factors(design.controls)))
    steps: list[tuple[str, str]] = []
    limited = 0
    if fitted.history is not None:
        best, limited = fitted.history.best.double(), int(fitted.history.limited.sum())
        steps = [
            ("Steps, median (max):", f"{best.median():.0f} ({best.max():.0f})"),
            ("At the step limit:", f"{limited} of {len(best)} networks"),
        ]
    diagnostics: list[tuple[str, str | float | int]] = [
        *((f"Loss, {name}:", f"{value:.5g}") for name, value in loss.items()),
        *((f"Stack, {name}:", text) for name, text in _stacked(structure, fitted) if len(fitted.mix) > 1),
        *steps,
        ("Smallest Lambda:", f"{lam.smallest:.3g} of mean"),
        ("Lambda floored:", f"{int(lam.floored.sum()):,} rows"),
        ("Lambda^-1 Hessian:", f"{met[0]:.2f} to {met[1]:.2f}"),
    ]
    notes = [
        "'|' reads 'regressors | what their coefficients vary with', not fixed effects.",
        "Averages are debiased; standard errors are those of influence functions (Farrell, Liang and Misra 2021), "
        "for the population average.",
        "Losses are out of fold.",
    ]
    if overlap is not None and overlap.spread is not None:
        diagnostics.append(("sd(t|x) / sd(t):", f"{overlap.spread:.3f}"))
        if overlap.spread < 0.1:
            notes.append("The features predict the treatment closely: what is left of it is little, and may be error.")
    if overlap is not None and overlap.least is not None:
        diagnostics.append(("P(t|x) min, median:", f"{overlap.least.min():.3f}, {overlap.least.median():.3f}"))
        diagnostics.append(("P(t|x) trimmed:", f"{overlap.trimmed:,} rows"))
        share = overlap.trimmed / len(overlap.least)
        if share > 0.05:
            notes.append(
                f"{overlap.trimmed:,} rows ({share:.0%}) have a treatment level that hardly occurs at their features; "
                "averages over them lean on extrapolation. Consider the ATT, or a subset."
            )
    if met[0] < 0.8 or met[1] > 1.25:
        notes.append(
            f"Lambda^-1 times the Hessian averages {met[0]:.2f} to {met[1]:.2f} over the rows, where it should be 1: "
            "the law of the treatment, or that of the outcome which the family states, does not describe the data, and "
            "corrections rest on it. Compare with hessian='regressed', or choose another family."
        )
    floored = float(lam.floored.double().mean())
    if floored > 0.05:
        notes.append(
            f"In {floored:.0%} of the rows the data say next to nothing on some coefficient (Lambda is floored): "
            "treatment or outcome can be all but predicted there, and averages lean on the other rows."
        )
    notes += [
        f"Feature {name!r} is dominated by a few extreme values, which are pulled in to 5 standard deviations; "
        "consider its logarithm or ranks."
        for name, x in zip(
            (*design.features, *design.controls), (*design.x.unbind(1), *design.w.unbind(1)), strict=True
        )
        if float(x.quantile(0.95) - x.quantile(0.05)) < 0.1 and len(x.unique()) > 20
    ]
    if limited:
        notes.append("Some networks were still improving at the step limit; raise LBFGS(steps=).")
    if loss["theta(x)"] > loss["homogeneous"]:
        notes.append("Out of fold, theta(x) predicts no better than constant coefficients.")
    model = f"structural, {structure.family.name}"
    return Facts(model, tuple(header), tuple(diagnostics), tuple(notes), False, goodness, call, loss)
