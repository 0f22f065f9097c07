"""The scikit-learn estimators: the numbers of structural(), inside scikit-learn's own machinery."""

import pickle
import sys

import numpy as np
import pandas as pd
import polars
import pytest
import torch
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss, r2_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import deepreg
from deepreg import StructuralClassifier, StructuralRegressor
from deepreg.errors import DataError, FormulaError, NotAvailable, OptionError
from deepreg.families import Logit
from deepreg.units import Units

N = 240
RNG = np.random.default_rng(3)
X = pd.DataFrame(RNG.normal(size=(N, 3)), columns=["t", "x0", "x1"], index=[f"row {i}" for i in range(N)])
X["g"] = np.resize(["a", "b", "c"], N)
Y = (1 + X.t * (1 + X.x0) + X.x1 + RNG.normal(size=N) / 2).rename("y")
B = (Y > 1).map({False: "no", True: "yes"}).rename("bought")
W = pd.Series(RNG.uniform(0.5, 2, N), X.index)
LAW = deepreg.KnownLaw(mean=0.0, sd=1.0)  # so that no fit has to learn it
FAST = {"learners": "smooth", "folds": 2, "rng": 0}


def regressor(formula: str = "t | x0 + x1", **options) -> StructuralRegressor:
    return StructuralRegressor(formula, **{"assignment": LAW, **FAST, **options})


def classifier(**options) -> StructuralClassifier:
    return StructuralClassifier("t | x0 + x1", **{"assignment": LAW, **FAST, **options})


def direct(formula: str, data: pd.DataFrame, **options):
    return deepreg.structural(formula, data, **{"assignment": LAW, **options}).fit(**FAST, progress=False)


@pytest.fixture(scope="module")
def fitted():
    return regressor().fit(X, Y)


@pytest.fixture(scope="module")
def sorted_out():
    return classifier().fit(X, B)


# ---- the same numbers


def test_the_result_is_that_of_structural(fitted):
    result = direct("y ~ t | x0 + x1", X.assign(y=Y))
    pd.testing.assert_frame_equal(fitted.result_.cov_params(), result.cov_params(), rtol=0)
    assert (fitted.result_.params == result.params).all() and fitted.result_.cate().index.equals(X.index)
    np.testing.assert_array_equal(fitted.predict(X), result.predict(X))
    assert not np.allclose(fitted.predict(X), result.predict())  # held out there, averages of all folds here
    assert fitted.score(X, Y) == pytest.approx(r2_score(Y, result.predict(X)))
    assert list(fitted.feature_names_in_) == ["t", "x0", "x1", "g"] and fitted.n_features_in_ == 4


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"cluster": "g", "vcov": "HC0"}, {"cluster": "g", "vcov": "HC0"}),
        ({"assignment": None}, {"assignment": None}),
    ],
)
def test_arguments_reach_structural(given, options):
    frame = X.assign(g=np.arange(N) // 4)
    result = direct("y ~ t | x0 + x1", frame.assign(y=Y), **options)
    pd.testing.assert_series_equal(regressor(**given).fit(frame, Y).result_.bse, result.bse, rtol=0)


def test_every_argument_of_the_fit_reaches_it():
    frame, y = X[:100], Y[:100]
    options = {"members": 2, "repeats": 2, "learners": ["network"], "penalty": 0.1, "hessian": "regressed", "folds": 3}
    options |= {"network": deepreg.MLP(hidden=(3,)), "trainer": deepreg.LBFGS(steps=5), "rng": 4, "device": "cpu"}
    result = deepreg.structural("y ~ t | x0 + x1", frame.assign(y=y)).fit(**options, progress=False)
    model = regressor(**options, assignment=None)
    pd.testing.assert_series_equal(model.fit(frame, y).result_.bse, result.bse, rtol=0)
    for name in ("folds", "members", "repeats", "learners", "network", "trainer", "penalty", "hessian", "device"):
        with pytest.raises(OptionError):
            clone(model).set_params(**{name: "trees" if name == "learners" else -3}).fit(frame, y)
    assert not (model.set_params(rng=5).fit(frame, y).result_.bse == result.bse).all()


def test_weights_are_a_column_or_an_argument_and_never_a_feature():
    frame = X[["t", "x0", "x1"]]
    weighted = direct("y ~ t | x0 + x1", frame.assign(y=Y, w=W), weights="w")
    for model in (
        regressor("t | .").fit(frame, Y, W),
        regressor("t | .").fit(frame, Y, sample_weight=W.to_numpy()),
        regressor("t | .", weights="w").fit(frame.assign(w=W), Y),
    ):
        pd.testing.assert_series_equal(model.result_.bse, weighted.bse, rtol=0)
        np.testing.assert_array_equal(model.predict(frame), weighted.predict(frame))
    taken = regressor("t | x0 + sample_weight").fit(frame.rename(columns={"x1": "sample_weight"}), Y, W)
    pd.testing.assert_frame_equal(taken.result_.cov_params(), weighted.cov_params(), rtol=0)


def test_other_frames_and_vectors_give_the_same_numbers(fitted):
    plain = X.reset_index(drop=True)
    for frame, y in (
        (polars.from_pandas(plain), polars.Series("y", Y.to_numpy())),
        (polars.from_pandas(plain), Y.to_numpy()),
        (plain, list(Y)),
        (X, Y.rename(None).astype("Float64")),
        (X, Y.rename("an outcome")),
        (X, Y.rename(7)),
    ):
        model = regressor().fit(frame, y)
        assert (model.result_.bse == fitted.result_.bse).all()
        np.testing.assert_array_equal(model.predict(frame), fitted.predict(X))
    assert regressor().fit(X, Y.rename("an outcome")).result_.design.outcome == "an outcome"
    again = regressor("t | x0 + x1 | y_").fit(X.assign(y_=W, y=1.0), Y.to_numpy())
    assert again.result_.design.outcome == "y__"  # a free name for an outcome without one


def test_rows_keep_their_order_and_columns_need_none(fitted):
    mixed = X.sample(frac=1, random_state=0)
    expected = pd.Series(fitted.predict(X), X.index).loc[mixed.index]
    np.testing.assert_array_equal(fitted.predict(mixed[["x1", "x0", "t"]]), expected)


def test_incomplete_rows_are_left_out_of_the_fit_or_refused():
    holes = X.assign(x0=X.x0.where(np.arange(N) > 4))
    model = regressor().fit(holes, Y.where(np.arange(N) < N - 3))
    assert model.result_.nobs == N - 8 and model.result_.design.dropped == {
        "missing outcome": 3,
        "missing regressors": 5,
    }
    with pytest.raises(DataError, match="'x0' in 5"):
        regressor(missing="raise").fit(holes, Y)


# ---- two classes


def test_the_classes_are_sorted_and_the_second_is_1(sorted_out):
    result = direct("bought ~ t | x0 + x1", X.assign(bought=(B == "yes") * 1), family="logit")
    assert list(sorted_out.classes_) == ["no", "yes"] and sorted_out.result_.design.outcome == "bought"
    assert (sorted_out.result_.bse == result.bse).all()
    chance = sorted_out.predict_proba(X)
    np.testing.assert_array_equal(chance[:, 1], result.predict(X))
    np.testing.assert_allclose(chance.sum(1), 1)
    assert (sorted_out.predict(X) == np.where(chance[:, 1] > 0.5, "yes", "no")).all()
    assert sorted_out.score(X, B) == (sorted_out.predict(X) == B).mean() > 0.7


@pytest.mark.parametrize(
    "labels", [[0, 1], [3, -2.5], [False, True], ["b", "a"], pd.Categorical(["v", "u"], ["v", "u"], ordered=True)]
)
def test_labels_may_be_any_two_values(labels, sorted_out):
    low, high = sorted(labels)
    y = pd.Series(np.where(B == "yes", high, low), X.index)
    model = classifier().fit(X, y if not isinstance(labels, pd.Categorical) else y.astype("category"))
    assert model.classes_.tolist() == [low, high] and (model.result_.bse == sorted_out.result_.bse).all()
    assert set(model.predict(X)) == {low, high}


def test_a_missing_label_is_no_class():
    y = B.where(np.arange(N) > 4)
    model = classifier().fit(X, y)
    assert model.result_.nobs == N - 5 and len(model.classes_) == 2
    assert (model.result_.bse == classifier().fit(X[5:], B[5:]).result_.bse).all()


def test_a_regressor_of_a_binary_family_predicts_probabilities(sorted_out):
    model = regressor(family="logit").fit(X, B == "yes")
    np.testing.assert_array_equal(model.predict(X), sorted_out.predict_proba(X)[:, 1])


def test_what_is_binary_is_a_property_of_the_family():
    class Mine(Logit):
        name = "mine"

    for family in map(deepreg.families.get, deepreg.families.names()):
        if family.binary:
            with pytest.raises(DataError):
                family.check(Units(torch.tensor([0.0, 1.0, 2.0]), torch.ones(3, 1), torch.ones(3)), "y")
    assert classifier(family=Mine).fit(X, B).result_.structure.family.name == "mine"
    for family in ("linear", deepreg.families.Poisson()):
        with pytest.raises(OptionError, match=r"is not for two classes; allowed are .*'logit'"):
            classifier(family=family).fit(X, B)


# ---- scikit-learn's machinery


@pytest.mark.parametrize("make", [regressor, classifier])
def test_parameters_are_stored_cloned_and_set(make):
    odd = {"network": deepreg.MLP(hidden=(3,)), "trainer": deepreg.LBFGS(), "context": {"f": np.tanh}, "folds": "no"}
    model = make(**odd)
    params = model.get_params()
    assert all(params[name] is value for name, value in odd.items()) and params["learners"] == "smooth"
    assert params["family"] == ("logit" if make is classifier else "linear")
    copy = clone(model)
    assert type(copy) is type(model) and copy.get_params() == params and repr(copy) == repr(model)
    assert copy.set_params(**make().get_params()).get_params() == make().get_params()
    with pytest.raises(ValueError, match="Invalid parameter 'depth'"):
        model.set_params(depth=3)
    with pytest.raises(TypeError):
        type(model)("t | x0", "linear")  # all but the formula are named


def test_clone_forgets_the_fit(fitted):
    assert not hasattr(clone(fitted), "result_")


def test_cross_validation_scores_rows_that_no_network_saw():
    folds = KFold(2)
    scores = cross_val_score(regressor(), X, Y, cv=folds)
    for score, (train, test) in zip(scores, folds.split(X), strict=True):
        result = direct("y ~ t | x0 + x1", X.assign(y=Y).iloc[train])
        assert score == pytest.approx(r2_score(Y.iloc[test], result.predict(X.iloc[test])))
    chance = cross_val_predict(classifier(), X, B, cv=2, method="predict_proba")
    assert log_loss(B, chance) < 0.5
    assert cross_val_score(classifier(), X, B, cv=2, scoring="roc_auc").min() > 0.8


def test_a_search_in_two_processes():
    grid = [{"learners": ["constant"]}, {"learners": ["smooth", ("constant", "smooth")], "penalty": [0.1]}]
    search = GridSearchCV(regressor(), grid, cv=2, n_jobs=2).fit(X, Y)
    assert search.best_params_["learners"] != "constant" and search.best_score_ > 0.7
    assert clone(search.estimator).set_params(**search.best_params_).fit(X, Y).score(X, Y) == search.score(X, Y)
    both = cross_validate(regressor(), X, Y, cv=2, n_jobs=2, return_estimator=True)
    assert all(one.result_.nobs == N // 2 for one in both["estimator"])


def test_a_pipeline_hands_on_names():
    plain = make_pipeline(StandardScaler(), regressor())
    with pytest.raises(DataError, match=r"X is of type ndarray.*set_output\(transform='pandas'\)"):
        plain.fit(X[["t", "x0", "x1"]], Y)
    scaled = plain.set_output(transform="pandas").fit(X[["t", "x0", "x1"]], Y)
    result = direct("y ~ t | x0 + x1", StandardScaler().set_output(transform="pandas").fit_transform(
        X[["t", "x0", "x1"]]).assign(y=Y))  # fmt: skip
    assert (scaled[-1].result_.bse == result.bse).all() and scaled.score(X[["t", "x0", "x1"]], Y) > 0.7


def test_a_fitted_estimator_can_be_pickled():
    formula = "bs(t, df=3) + np.tanh(x1) | x0"
    for model in (regressor(formula, assignment=None).fit(X, Y), classifier().fit(X, B)):
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
        pd.testing.assert_frame_equal(again.result_.cov_params(), model.result_.cov_params(), rtol=0)


@pytest.mark.skipif(not hasattr(BaseEstimator, "__sklearn_tags__"), reason="scikit-learn has tags since 1.6")
def test_tags_say_what_the_estimators_are():
    assert is_regressor(regressor()) and is_classifier(classifier()) and not is_classifier(regressor())
    tags = regressor().__sklearn_tags__()
    assert tags.target_tags.required and not tags.input_tags.two_d_array and not tags.input_tags.allow_nan
    assert tags.input_tags.categorical and tags.input_tags.string and not tags.non_deterministic
    assert regressor(rng=None).__sklearn_tags__().non_deterministic


# ---- what is refused


@pytest.mark.parametrize("ask", ["predict", "predict_proba"])
def test_before_the_fit_there_is_nothing_to_predict(ask):
    with pytest.raises(NotFittedError, match="StructuralClassifier"):
        getattr(classifier(), ask)(X)


def test_predictions_are_refused_where_they_would_be_missing(fitted):
    bad = X.assign(x0=X.x0.where(np.arange(N) > 4), t=X.t.mask(np.arange(N) == 9, np.inf), g=None)
    with pytest.raises(DataError, match=r"missing or infinite values, of 240 rows: 't' in 1, 'x0' in 5\. Fill them"):
        fitted.predict(bad)
    with pytest.raises(DataError, match="needs the column 'x1'"):
        fitted.predict(X.drop(columns="x1"))
    levels = regressor("t | x0 + g").fit(X, Y)
    with pytest.raises(DataError, match=r"'g' has level 'q' not seen in training.*80 rows.*Take them out of X"):
        levels.predict(X.replace({"g": {"c": "q"}}))


@pytest.mark.parametrize(
    ("formula", "y", "message"),
    [
        ("y ~ t | x0", Y.rename("z"), "names the outcome 'y', but y is called 'z'. Type formula='t | x0'"),
        ("y ~ t | x0", Y.to_numpy(), "names the outcome 'y', but y has no name. Type formula='t | x0'"),
        ("log(y) ~ t | x0", Y, "names the outcome 'log(y)', but y is called 'y'"),
        ("y ~ t ~ x0", Y, "more than one '~'"),
        ("", Y, "structural terms are empty"),
        (3, Y, "A formula is a string"),
    ],
)
def test_formulas_that_are_refused(formula, y, message):
    with pytest.raises(FormulaError) as caught:
        regressor(formula).fit(X, y)
    assert message in str(caught.value)


def test_a_formula_may_name_the_outcome(fitted):
    assert (regressor("y ~ t | x0 + x1").fit(X, Y).result_.bse == fitted.result_.bse).all()
    spaced = regressor("`an outcome` ~ t | x0 + x1").fit(X, Y.rename("an outcome"))
    assert (spaced.result_.bse == fitted.result_.bse).all()


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        (lambda: regressor().fit(X.to_numpy(), Y), "X is of type ndarray, but the formula names columns"),
        (lambda: regressor().fit({"t": [1.0]}, [1.0]), "X is of type dict"),
        (lambda: regressor().fit(polars.from_pandas(X).lazy(), Y), "X is of type LazyFrame"),
        (lambda: regressor().fit(X.rename(columns={"g": 0}), Y), "names are not strings, such as 0"),
        (lambda: regressor().fit(X.assign(y=Y), Y), "X has a column with the name of y, 'y'. Type X.drop"),
        (lambda: regressor().fit(X, Y.reset_index(drop=True)), "y has another index than X. Type y.loc[X.index]"),
        (lambda: regressor().fit(X, Y[::-1]), "y has another index than X"),
        (lambda: regressor().fit(X, Y, W[::-1]), "sample_weight has another index than X"),
        (lambda: regressor().fit(X, Y[1:]), "X has 240 rows, but y has 239 values"),
        (lambda: regressor().fit(X, Y.to_frame()), "y is of type DataFrame and shape (240, 1)"),
        (lambda: regressor().fit(X, None), "y is of type NoneType and shape ()"),
        (lambda: regressor().fit(X, Y, 2.0), "sample_weight is of type float and shape ()"),
        (lambda: regressor().fit(X, Y, W.where(W > 1, 0)), f"0 or negative in {int((W <= 1).sum())} of 240 rows"),
        (lambda: regressor().fit(X, Y, W.astype(str)), "sample_weight is text or a category"),
        (lambda: regressor(weights="x0").fit(X, Y, W), "weights='x0' and sample_weight= both give weights"),
        (lambda: regressor().fit(X, B), "y is text or a category ('no', 'yes'), but must be numbers"),
        (lambda: classifier().fit(X, Y), "y has 240 classes ("),
        (lambda: classifier().fit(X, B.where(B == "no")), "y has 1 class ('no'); two are needed"),
        (lambda: classifier().fit(X, B.where(B == "no", 1)), "mixed"),
        (lambda: regressor(learners="trees").fit(X, Y), "learners='trees'"),
        (lambda: regressor("t | f(x0)").fit(X, Y), "uses 'f', but the data have no such column"),
    ],
)
def test_data_that_are_refused(fit, message):
    with pytest.raises((DataError, OptionError)) as caught:
        fit()
    assert message in str(caught.value)


def test_functions_come_from_the_context_alone():
    f = np.tanh
    with pytest.raises(DataError, match="uses 'f'"):
        regressor("t | f(x0)").fit(X, Y)
    named = regressor("t | y(x0)", context={"y": f}).fit(X, Y.to_numpy())  # the outcome does not hide the function
    assert named.result_.design.features == ("y(x0)",) and named.result_.design.outcome == "y_"
    assert regressor("t | f(x0)", context={"f": f}).fit(X, Y).result_.design.features == ("f(x0)",)


def test_without_scikit_learn_the_rest_is_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "deepreg.estimator")
    for name in ("StructuralRegressor", "StructuralClassifier"):
        monkeypatch.delitem(vars(deepreg), name)
        assert name in dir(deepreg)
        with pytest.raises(NotAvailable, match="scikit-learn is not installed; pip install scikit-learn"):
            getattr(deepreg, name)
    exec("from deepreg import *", {})
