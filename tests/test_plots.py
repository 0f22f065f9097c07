"""Plots: the artists hold the numbers, nothing global moves, and what cannot be shown is said."""

import builtins
import copy
from collections.abc import Callable
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
import torch
from matplotlib.axes import Axes

import deepreg
from deepreg import plots
from deepreg.errors import NotAvailable, OptionError
from deepreg.results import Results
from deepreg.targets import ATE, Mean

FAST: dict[str, Any] = {"folds": 2, "members": 2, "rng": 0, "progress": False, "learners": ("smooth", "network")}
N = 300


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    x = rng.normal(size=N)
    d = (rng.uniform(size=N) < 1 / (1 + np.exp(-x))) * 1
    arm, t = rng.choice(["a", "b", "c"], N), rng.normal(5 + x, 1 + 0.3 * (x > 0))
    y = x + d * (1 + x) + (arm == "b") * 2 + 0.5 * t + rng.normal(size=N)
    k = rng.choice(["u", "v", "w"], N)
    w, z = rng.uniform(0.5, 2, N), np.where(np.arange(N) % 50 == 7, np.nan, rng.normal(size=N))
    return pd.DataFrame({"y": y, "d": d, "arm": arm, "t": t, "x": x, "k": k, "w": w, "g": np.arange(N) // 5, "z": z})


def fit(formula: str, options: Any = None, **kwargs: Any) -> Results:
    return deepreg.structural(formula, frame(), **kwargs).fit(**{**FAST, **(options or {})})


@pytest.fixture(scope="module")
def fits() -> dict[str, Results]:
    return {
        "one feature": fit("y ~ d | x"),
        "two features, weights, clusters, dropped rows": fit("y ~ d | x + k + z", weights="w", cluster="g"),
        "several effects": fit("y ~ d + C(arm) + t | x + k", {"learners": "smooth"}),
        "continuous": fit("y ~ t | x"),
        "constant": deepreg.structural("y ~ d + t", frame()).fit(),
        "known": fit("y ~ d | x", assignment=deepreg.KnownLaw(probability=0.5)),
        "regressed": fit("y ~ d | x", {"folds": 3, "hessian": "regressed", "learners": "smooth"}),
    }


WEIGHTED = "two features, weights, clusters, dropped rows"
DRAWN: dict[str, tuple[str, Callable[[Any, Any], Axes]]] = {
    "coef": ("one feature", lambda p, ax: p.coef(ax=ax)),
    "coef of several": ("several effects", lambda p, ax: p.coef(ax=ax)),
    "coef of two": ("one feature", lambda p, ax: p.coef(p.result, labels=["p", "q"], ax=ax)),
    "coef of effects": ("several effects", lambda p, ax: p.coef(of="effects", ax=ax)),
    "coef of constants": ("constant", lambda p, ax: p.coef(ax=ax)),
    "cate": ("one feature", lambda p, ax: p.cate(ax=ax)),
    "weighted cate": (WEIGHTED, lambda p, ax: p.cate(ax=ax)),
    "cate of a level": ("several effects", lambda p, ax: p.cate("arm[b]", ax=ax)),
    "effect": (WEIGHTED, lambda p, ax: p.effect("z", ax=ax)),
    "effect of levels": (WEIGHTED, lambda p, ax: p.effect("k", ax=ax)),
    "effect of one of several": ("several effects", lambda p, ax: p.effect("x", "t", ax=ax)),
    "dose": ("continuous", lambda p, ax: p.dose(ax=ax)),
    "dose of levels": ("several effects", lambda p, ax: p.dose("arm", ax=ax)),
    "dose of constants": ("constant", lambda p, ax: p.dose("t", ax=ax)),
    "training": ("one feature", lambda p, ax: p.training(ax=ax)),
    "overlap": (WEIGHTED, lambda p, ax: p.overlap(ax=ax)),
    "overlap of a level": ("several effects", lambda p, ax: p.overlap("arm", "b", ax=ax)),
    "overlap of a number": ("continuous", lambda p, ax: p.overlap(ax=ax)),
    "overlap of a known law": ("known", lambda p, ax: p.overlap(ax=ax)),
    "toc": ("one feature", lambda p, ax: p.toc(ax=ax)),
    "gain": (WEIGHTED, lambda p, ax: p.gain(ax=ax)),
    "calibration": ("continuous", lambda p, ax: p.calibration(ax=ax)),
    "clan": ("several effects", lambda p, ax: p.clan("t", ax=ax)),
}


@pytest.mark.parametrize("case", DRAWN)
def test_every_plot_draws_on_the_axes_given_and_leaves_the_world_as_it_was(
    case: str, fits: dict[str, Results], tmp_path: Any
) -> None:
    name, draw = DRAWN[case]
    before, seed = copy.deepcopy(dict(matplotlib.rcParams)), torch.get_rng_state()
    figure, (ax, other) = plt.subplots(1, 2)
    assert draw(fits[name].plot, ax) is ax
    assert ax.get_xlabel() and not other.lines and not other.get_xlabel() and not figure.legends
    if ax.get_legend() is not None:  # a title above has its place
        figure.draw_without_rendering()
        assert ax.get_legend().get_window_extent().y1 <= ax.bbox.y1 + 1
    assert plt.gcf() is figure and plt.gca() is other
    plt.close(figure)
    own = draw(fits[name].plot, None)
    own.figure.savefig(tmp_path / "plot.png")
    assert isinstance(own, Axes) and plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before and torch.equal(torch.get_rng_state(), seed)


@pytest.mark.parametrize("case", DRAWN)
def test_nothing_leaves_the_page(case: str, fits: dict[str, Results]) -> None:
    """Long names in every place stay inside of the figure, in letters that can be read."""
    name, draw = DRAWN[case]
    own = draw(fits[name].plot, None)
    own.figure.draw_without_rendering()
    drawn, page = own.figure.get_tightbbox(), own.figure.get_size_inches()
    assert drawn.x0 >= -0.01 and drawn.y0 >= -0.01 and drawn.x1 <= page[0] + 0.01 and drawn.y1 <= page[1] + 0.01
    assert page[0] == plots.WIDTH
    words = [*own.get_xticklabels(), *own.get_yticklabels(), own.xaxis.label, own.yaxis.label]
    assert min(word.get_fontsize() for word in words) >= 8


def test_long_names_are_cut_into_lines(tmp_path: Any) -> None:
    long = "log_of_monthly_household_consumption_per_capita"
    data = frame().rename(columns={"y": long, "x": "distance_to_the_nearest_district_capital_in_km"})
    data["arm"] = data["arm"].map(
        {"a": "$ per $", "b": "supplementary_vitamins_without_spaces", "c": "cash and a visit"}
    )
    one = deepreg.structural(f"{long} ~ arm | {data.columns[4]} + k", data).fit(**FAST | {"learners": "smooth"})
    effect = "arm[supplementary_vitamins_without_spaces]"
    for ax in (one.plot.coef(), one.plot.cate(effect), one.plot.effect("k", effect), one.plot.dose(),
               one.plot.overlap(), one.plot.effect(data.columns[4], effect)):  # fmt: skip
        ax.figure.draw_without_rendering()
        drawn, page = ax.figure.get_tightbbox(), ax.figure.get_size_inches()
        assert drawn.x0 >= -0.01 and drawn.x1 <= page[0] + 0.01 and drawn.y1 <= page[1] + 0.01
        assert ax.get_position().width > 0.3 and ax.get_position().height > 0.25
    shown = [label.get_text() for label in one.plot.dose().get_yticklabels()]
    assert shown == ["\\$ per \\$", "cash and a visit", "supplementary_vitamins_\nwithout_spaces"]


# numbers


def bars(ax: Axes, j: int) -> np.ndarray:
    """The ends of the horizontal bars of the j-th collection; (bars, 2)."""
    return np.array([segment[:, 0] for segment in ax.collections[j].get_segments() if len(segment)])


def edges(ax: Axes, j: int, at: np.ndarray) -> np.ndarray:
    """The lower and upper edge of the j-th band at the points where it was drawn; (points, 2)."""
    path = ax.collections[j].get_paths()[0].vertices
    return np.array([[side(path[path[:, 0] == one, 1]) for side in (np.min, np.max)] for one in at])


def test_coefficients_and_their_bars(fits: dict[str, Results]) -> None:
    one = fits["several effects"]
    names = list(one.params.index[1:])
    ax = one.plot.coef(alpha=0.1)
    assert [label.get_text() for label in ax.get_yticklabels()] == names
    np.testing.assert_allclose(bars(ax, 0), one.conf_int(0.1).loc[names])
    np.testing.assert_allclose(ax.lines[1].get_xdata(), one.params[names])
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), range(4))
    assert ax.yaxis_inverted() and list(ax.lines[0].get_xdata()) == [0, 0]
    effects = one.plot.coef(of="effects", keep=["ATE arm: c vs a"])
    assert one.effects is not None
    np.testing.assert_allclose(bars(effects, 0), one.effects.select(["ATE arm: c vs a"]).interval())
    assert [label.get_text() for label in fits["one feature"].plot.coef(keep="Intercept").get_yticklabels()] == [
        "Intercept"
    ]


def test_coefficients_of_several_results(fits: dict[str, Results]) -> None:
    one, ols = fits["one feature"], smf.ols("y ~ d + x", frame()).fit()
    ax = one.plot.coef(ols, labels=["theta(x)", "OLS"])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["d", "x"]
    np.testing.assert_allclose(bars(ax, 0)[0], one.conf_int().loc["d"])
    np.testing.assert_allclose(bars(ax, 1), ols.conf_int().loc[["d", "x"]])
    assert [text.get_text() for text in ax.figure.legends[0].get_texts()] == ["theta(x)", "OLS"]
    first, second = ax.lines[1].get_ydata(), ax.lines[2].get_ydata()
    assert np.isnan(ax.lines[1].get_xdata()[1]) and (first < second).all() and abs(first + second - [0, 2]).max() < 1e-9
    shades = {line.get_markerfacecolor() for line in ax.lines[1:]}
    assert len(shades) == 2 and len({line.get_marker() for line in ax.lines[1:]}) == 2


@pytest.mark.parametrize("name", ["one feature", WEIGHTED])
def test_the_histogram_of_effects_and_the_debiased_mean(name: str, fits: dict[str, Results]) -> None:
    one = fits[name]
    ax, weight = one.plot.cate(alpha=0.2), one.design.weight.numpy()
    values, heights = one.cate()["d"].dropna(), [bar.get_height() for bar in ax.patches[:-1]]
    cuts = [*(bar.get_x() for bar in ax.patches[:-1]), ax.patches[-2].get_x() + ax.patches[-2].get_width()]
    assert len(values) == one.nobs and cuts[0] == values.min() and cuts[-1] == pytest.approx(values.max())
    np.testing.assert_allclose(heights, np.histogram(values, cuts, weights=weight / weight.sum())[0], atol=1e-6)
    average = one.ate()
    assert ax.lines[-1].get_xdata()[0] == average.value[0]
    band = ax.patches[-1]
    np.testing.assert_allclose([band.get_x(), band.get_x() + band.get_width()], average.interval(0.2)[0])
    assert ax.get_xlabel() == "effect of d on y" and "80% interval" in ax.figure.legends[0].get_texts()[0].get_text()
    assert ax.get_ylabel() == ("weighted share of rows" if name == WEIGHTED else "share of rows")


def test_the_effect_along_a_number_is_the_curve_of_the_estimates(fits: dict[str, Results]) -> None:
    one = fits[WEIGHTED]
    ax = one.plot.effect("z", alpha=0.1, knots=4)
    values = frame()["z"].dropna()
    table = one.ate().curve(frame()["z"], alpha=0.1, knots=4).loc["ATE d: 1 vs 0"]
    at = table.index.to_numpy()
    np.testing.assert_allclose(np.array(ax.lines[0].get_xydata()), np.c_[at, table["coef"]])
    np.testing.assert_allclose(edges(ax, 0, at), table[["lower", "upper"]])
    np.testing.assert_allclose(edges(ax, 1, at), table[["[0.05", "0.95]"]])
    np.testing.assert_allclose(ax.lines[1].get_xdata(), values.quantile(np.linspace(0.1, 0.9, 9)))
    assert ax.lines[2].get_ydata()[0] == one.ate().value[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("z", "effect of d on y")


def test_the_effect_along_levels_is_the_average_of_each(fits: dict[str, Results]) -> None:
    one = fits["several effects"]
    ax = one.plot.effect("k", "arm[c]")
    table = one.estimate(ATE("arm", hi="c", lo="a")).curve(frame()["k"]).loc["ATE arm: c vs a"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["u", "v", "w"]
    np.testing.assert_allclose(bars(ax, 0), table[["lower", "upper"]])
    np.testing.assert_allclose(bars(ax, 1), table[["[0.025", "0.975]"]])
    np.testing.assert_allclose(ax.lines[0].get_xdata(), table["coef"])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("effect of arm: c vs a on y", "k")
    assert one.plot.effect("x", "t").get_ylabel() == "marginal effect of t on y"


def test_the_dose_response_and_its_band(fits: dict[str, Results]) -> None:
    one, grid = fits["continuous"], [3.0, 4.0, 6.5]
    ax = one.plot.dose(grid=grid)
    means = one.estimate(Mean("t", at=grid))
    np.testing.assert_allclose(np.array(ax.lines[0].get_xydata()), np.c_[grid, means.value])
    np.testing.assert_allclose(edges(ax, 0, np.array(grid)), means.band()[["lower", "upper"]])
    np.testing.assert_allclose(edges(ax, 1, np.array(grid)), means.interval())
    span = one.plot.dose().lines[0].get_xdata()
    np.testing.assert_allclose([len(span), span[0], span[-1]], [25, *frame()["t"].quantile([0.05, 0.95])])
    levels = fits["several effects"].plot.dose("arm")
    np.testing.assert_allclose(levels.lines[0].get_xdata(), fits["several effects"].estimate(Mean("arm")).value)
    assert [label.get_text() for label in levels.get_yticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in fits["one feature"].plot.dose().get_yticklabels()] == ["0", "1"]


def test_the_losses_of_the_networks_and_of_the_fit(fits: dict[str, Results]) -> None:
    one = fits["one feature"]
    ax, history = one.plot.training(), one.history
    assert history is not None
    for j, loss in enumerate((history.train, history.valid)):
        kept = loss.numpy().copy()
        for step in range(1, len(kept)):
            kept[step] = np.where(np.isnan(kept[step]), kept[step - 1], kept[step])
        np.testing.assert_allclose(ax.lines[j].get_ydata(), np.median(kept, 1))
        np.testing.assert_allclose(edges(ax, j, np.arange(len(kept))), np.c_[kept.min(1), kept.max(1)])
    u, theta = one.design.units, torch.tensor(one.theta().to_numpy())
    level = float(one.structure.family.loss(u, theta).mean())
    np.testing.assert_allclose([line.get_ydata()[0] for line in ax.lines[2:]][1], level)
    ols = smf.ols("y ~ d", frame()).fit()
    assert ax.lines[2].get_ydata()[0] == pytest.approx(0.5 * (ols.resid**2).mean(), rel=0.1)


def test_overlap_of_levels_and_the_bounds(fits: dict[str, Results]) -> None:
    one = fits[WEIGHTED]
    assert one.law is not None and one.splits is not None
    chance = one.law.probability(one.design.inputs, one.splits, trim=False)[0, :, 1].numpy()
    weight, d = one.design.weight.numpy(), one.design.frame["d"].to_numpy()
    drawn: dict[str, Any] = {}
    ax = one.plot.overlap()
    cuts = np.linspace(0, 1, 26)
    for patch, level in zip(ax.patches, (0, 1), strict=True):
        drawn[patch.get_label()] = patch
        heights = np.histogram(chance[d == level], cuts, weights=weight[d == level] / weight[d == level].sum())[0]
        np.testing.assert_allclose(sorted(set(patch.get_xy()[:, 1].round(9))), sorted({0, *heights.round(9)}))
    assert set(drawn) == {"d = 0", "d = 1"}
    np.testing.assert_allclose([line.get_xdata()[0] for line in ax.lines], [0.01, 0.99])
    assert not fits["known"].plot.overlap().lines  # nothing is trimmed
    several = fits["several effects"].plot.overlap("arm", "b")
    assert [text.get_text() for text in several.figure.legends[0].get_texts()] == ["other levels", "arm = b"]
    assert several.get_xlabel() == "P(arm = b | x)"


def test_the_probability_of_one_of_several_treatments_is_summed_over_the_others(fits: dict[str, Results]) -> None:
    one = fits["several effects"]
    assert one.overlap is not None and one.overlap.probability is not None
    assert one.overlap.probability.shape == (N, 6)
    ax, mine = one.plot.overlap("arm", "b"), (frame()["arm"] == "b").to_numpy()
    chance = one.overlap.probability[:, [1, 4]].sum(1).numpy()  # cells are ordered by d, then by arm
    heights = np.histogram(chance[mine], np.linspace(0, 1, 26))[0] / mine.sum()
    assert set(ax.patches[1].get_xy()[:, 1].round(9)) == {0, *heights.round(9)}


def test_overlap_of_a_number_is_its_relative_spread(fits: dict[str, Results]) -> None:
    one = fits["continuous"]
    assert one.law is not None and one.splits is not None
    scale = one.law.location_scale(one.design.inputs, one.splits)[1][0, :, 0, 0].numpy() / frame()["t"].std()
    ax = one.plot.overlap()
    heights = np.histogram(scale, np.linspace(0, max(1, scale.max()) * 1.02, 26))[0] / N
    assert set(ax.patches[0].get_xy()[:, 1].round(9)) == {0, *heights.round(9)}
    assert ax.get_xlabel() == "sd(t | x) / sd(t)"


def test_a_gain_curve() -> None:
    share = np.linspace(0.1, 1, 10)
    curve = share * (2 - share)
    columns = {"coef": curve, "low": curve, "high": curve, "lower": curve - 0.1, "upper": curve + 0.2}
    ax = plots.gain(pd.DataFrame(columns, index=share), level="90%", ylabel="gain in y")
    np.testing.assert_array_equal(np.array(ax.lines[0].get_xydata()), np.c_[share, curve])
    np.testing.assert_allclose(edges(ax, 0, share), np.c_[curve - 0.1, curve + 0.2])
    np.testing.assert_array_equal(np.array(ax.lines[1].get_xydata()), [[0, 0], [1, curve[-1]]])
    assert ax.get_ylabel() == "gain in y" and ax.figure.legends[0].get_texts()[0].get_text() == "90% band"


def test_the_panels_of_heterogeneity_have_the_numbers_of_the_diagnostics(fits: dict[str, Results]) -> None:
    one = fits[WEIGHTED]
    panels, found = one.plot.heterogeneity(groups=4, alpha=0.1), one.heterogeneity
    assert len(panels) == 4 and len({ax.figure for ax in panels}) == 1
    share = found.toc().share
    for ax, curve in ((panels[0], found.toc()), (panels[2], found.gain())):
        frame = curve.frame(0.1)
        np.testing.assert_array_equal(np.array(ax.lines[0].get_xydata()), np.c_[share, frame["coef"]])
        np.testing.assert_allclose(edges(ax, 0, share), frame[["lower", "upper"]])
        np.testing.assert_allclose(edges(ax, 1, share), frame.iloc[:, 4:6])
    np.testing.assert_array_equal(np.array(panels[2].lines[1].get_xydata())[0], [0, 0])
    calibration = found.calibration(groups=4)
    groups = calibration.groups
    points = next(line for line in panels[1].lines if line.get_marker() == "o")
    np.testing.assert_array_equal(np.array(points.get_xydata()), np.c_[groups.predicted, groups.estimate])
    bars = [np.array(part.get_segments())[:, :, 1] for part in panels[1].collections]
    np.testing.assert_allclose(bars[0], groups.band(0.1))
    np.testing.assert_allclose(bars[1], groups.conf_int(0.1))
    fit = panels[1].lines[2]
    np.testing.assert_allclose(np.diff(fit.get_ydata()) / np.diff(fit.get_xdata()), calibration.estimate["slope"])
    assert panels[0].get_title(loc="left").startswith(f"Targeting: AUTOC {found.rate().estimate.item():.2f} (")
    assert panels[1].get_title(loc="left").startswith(f"Calibration: slope {calibration.estimate['slope']:.2f} (")
    clan = found.clan(groups=4)
    weight = one.design.weight.numpy()
    x = one.design.frame["x"].to_numpy()
    sd = np.sqrt(np.average((x - np.average(x, weights=weight)) ** 2, weights=weight))
    shown = dict(zip([t.get_text() for t in panels[3].get_yticklabels()], panels[3].lines[1].get_xdata(), strict=True))
    assert shown["x"] == pytest.approx(clan.estimate["x"] / sd)
    with pytest.raises(NotAvailable, match="features behind a bar"):
        fits["constant"].plot.heterogeneity()
    with pytest.raises(OptionError, match="'d', 'arm\\[b\\]'"):
        fits["several effects"].plot.toc()


def test_a_name_keeps_every_letter() -> None:
    for name in ("effect of a_b.c on C(arm)[T.long-name_of_it]", "x" * 99, "a, b: c", "Größe in €"):
        for width in (2, 7, 40):
            shown = plots._text(name, width)
            assert shown.replace("\n", "").replace(" ", "") == name.replace(" ", "")
            assert max(map(len, shown.split("\n"))) <= width
    assert plots._text("_x") == " _x"  # a legend leaves out what begins with an underscore


def test_a_legend_in_a_panel_hides_nothing(fits: dict[str, Results]) -> None:
    figure, panels = plt.subplots(1, 3, figsize=(10.5, 3), layout="constrained")
    one = fits[WEIGHTED]
    tops = []
    for ax, draw in zip(panels, (one.plot.cate, lambda ax: one.plot.effect("z", ax=ax),
                                 lambda ax: one.plot.effect("k", ax=ax)), strict=True):  # fmt: skip
        draw(ax=ax)
        figure.draw_without_rendering()
        tops.append(max([bar.get_height() for bar in ax.patches[:-1]], default=0.0))
    tops[1], tops[2] = edges(panels[1], 0, panels[1].lines[0].get_xdata()).max(), 0.0
    for ax, top in zip(panels, tops, strict=True):
        assert ax.get_legend().get_window_extent().y0 >= ax.transData.transform((0, top))[1]
    plt.close(figure)


# what cannot be shown

REFUSED: dict[str, tuple[type[Exception], str, str, Callable[[Any], object]]] = {
    "a feature": (OptionError, r"feature='q': the features and controls are 'x', 'k'", "several effects",
                  lambda p: p.effect("q", "t")),
    "no effect named": (OptionError, r"effect=None: .* 'd', 'arm\[b\]', 'arm\[c\]', 't'", "several effects",
                        lambda p: p.cate()),
    "an effect": (OptionError, r"effect='arm': .* 'arm\[b\]'", "several effects", lambda p: p.effect("x", "arm")),
    "a treatment": (OptionError, r"dose\('x'\): the structural variables .* 'd', 'arm', 't'", "several effects",
                    lambda p: p.dose("x")),
    "no treatment named": (OptionError, "'d', 'arm', 't'", "several effects", lambda p: p.overlap()),
    "a level": (OptionError, "level=2: the levels of d are 0, 1", "one feature", lambda p: p.overlap(level=2)),
    "a grid": (OptionError, "increasing order", "continuous", lambda p: p.dose(grid=[2.0, 1.0])),
    "a coefficient": (OptionError, "keep='q': there are 'Intercept', 'd'", "one feature", lambda p: p.coef(keep=["q"])),
    "no coefficient": (OptionError, r"keep=\[\]", "one feature", lambda p: p.coef(keep=[])),
    "a kind": (OptionError, "of='cate': allowed are 'averages' and 'effects'", "one feature",
               lambda p: p.coef(of="cate")),
    "labels": (OptionError, "give 2 different names", "one feature", lambda p: p.coef(p.result, labels=["a", "a"])),
    "no result": (OptionError, "not str", "one feature", lambda p: p.coef("q")),
    "no effects": (OptionError, "results of deepreg, not RegressionResultsWrapper", "one feature",
                   lambda p: p.coef(smf.ols("y ~ d", frame()).fit(), of="effects")),
    "seven results": (OptionError, "7 sets of estimates", "one feature", lambda p: p.coef(*[p.result] * 6)),
    "no axes": (OptionError, "ax=3: give a matplotlib Axes", "one feature", lambda p: p.cate(ax=3)),
    "effects that are coefficients": (NotAvailable, "of='averages' shows", "continuous",
                                      lambda p: p.coef(of="effects")),
    "constant cate": (NotAvailable, "features behind a bar", "constant", lambda p: p.cate("d")),
    "constant effect": (NotAvailable, "features behind a bar", "constant", lambda p: p.effect("x")),
    "constant overlap": (NotAvailable, "features behind a bar", "constant", lambda p: p.overlap("d")),
    "constant training": (NotAvailable, "this fit has none", "constant", lambda p: p.training()),
    "no network": (NotAvailable, "this fit has none", "several effects", lambda p: p.training()),
    "no law": (NotAvailable, "hessian='regressed' does without", "regressed", lambda p: p.overlap()),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_shown_is_said(case: str, fits: dict[str, Results]) -> None:
    error, words, name, draw = REFUSED[case]
    with pytest.raises(error, match=words):
        draw(fits[name].plot)


def test_without_matplotlib_it_is_said_what_to_install(
    fits: dict[str, Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(NotAvailable, match="pip install matplotlib"):
        fits["one feature"].plot.cate()


def test_other_arrays_are_refused() -> None:
    with pytest.raises(OptionError, match="3 groups; give one or two"):
        plots.overlap({name: np.ones(3) / 2 for name in "abc"})
    with pytest.raises(OptionError, match="lines has 3 levels"):
        plots.losses(np.ones((2, 1)), np.ones((2, 1)), lines={"a": 1, "b": 2, "c": 3})
    with pytest.raises(OptionError, match="0 sets of estimates"):
        plots.coefficients({})
