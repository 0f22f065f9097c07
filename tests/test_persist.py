"""Files: a loaded result gives the digits of the saved one, and no file runs anything or goes wrong unsaid."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

import deepreg
from deepreg import KnownLaw, targets
from deepreg.errors import FileError, NotAvailable, OptionError
from deepreg.families import Linear
from deepreg.results import Results
from deepreg.storage import persist, portable

ROOT = Path(__file__).parent.parent
N = 300


def frame(n: int = N, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x, z, noise = rng.normal(size=(3, n))
    arm, k = rng.choice(["a", "b", "c"], n), rng.choice(["u", "v", "w"], n)
    d = (rng.uniform(size=n) < 1 / (1 + np.exp(-x / 2))) * 1
    t = rng.normal(2 + 0.3 * x, 1)
    eta = 0.3 + 0.5 * x + d * (0.4 - 0.5 * x) + 0.2 * (t - 2) + 0.3 * (arm == "b")
    return pd.DataFrame(
        {
            "y": eta + noise, "b": (rng.uniform(size=n) < 1 / (1 + np.exp(-eta))) * 1,
            "c": rng.poisson(np.exp(eta / 2)), "d": d, "t": t, "arm": arm, "x": x, "z": z, "k": k,
            "w": rng.uniform(0.5, 2, n), "g": [f"c{i // 5}" for i in range(n)], "h": np.arange(n) % 30,
            "r": rng.choice(pd.Categorical(["lo", "hi"], categories=["lo", "hi"], ordered=True), n),
            "q": rng.uniform(size=n) < 0.5, "m": rng.integers(3, size=n), "p": np.where(x > 0, 0.4, 0.6),
        },
        index=pd.Index([f"row{i // 2}" for i in range(n)], name="id"),
    )  # fmt: skip


def fit(formula: str, data: Any = None, family: Any = "linear", options: Any = None, **kwargs: Any) -> Results:
    model = deepreg.structural(formula, frame() if data is None else data, family, **kwargs)
    fast = {"folds": 2, "members": 1, "rng": 3, "progress": False, "learners": "smooth"}
    return model.fit(**{**fast, **(options or {})})


cut, levels = 0.25, ["u", "v", "w"]  # what formulas borrow
every = ("constant", "smooth", "additive", "uncentred")
holes = frame().assign(x=lambda f: f["x"].where(f["x"] < 1.5), w=lambda f: f["w"].where(f["w"] > 0.6))
FITS: Mapping[str, Callable[[], Results]] = {
    "controls and two-way clusters": lambda: fit(
        "y ~ d + t | x + C(k) | z", cluster=("g", "h"), options={"learners": every}
    ),
    "repeats": lambda: fit("y ~ d | x + bs(z, df=4)", family="gaussian", options={"repeats": 3}),
    "weights and interactions": lambda: fit(
        "b ~ arm * t | x + r", family="logit", weights="w", options={"learners": ("additive", "uncentred")}
    ),
    "networks": lambda: fit("c ~ d | x + C(k) | z", family="poisson", options={"learners": ("smooth", "network")}),
    "one network": lambda: fit(
        "y ~ d | x", options={"learners": "network", "network": deepreg.MLP(hidden=(), skip=True)}
    ),
    "constant": lambda: fit("y ~ d * t + C(k) + bs(z, df=3)", cluster="g"),
    "constant counts": lambda: fit("c ~ d + x", family="poisson", weights="w"),
    "known probabilities": lambda: fit("y ~ d | x", assignment=KnownLaw(probability="p")),
    "known moments": lambda: fit("y ~ t | x", assignment=KnownLaw(mean=2.0, sd=1.0)),
    "regressed": lambda: fit("y ~ d + t | x", options={"folds": 3, "hessian": "regressed"}),
    "transforms": lambda: fit(
        "np.log1p(c) ~ poly(t, 2) + q | scale(x) + center(z):r + C(m, contr.treatment(2)) + I(d**2)"
    ),
    "dropped rows": lambda: fit("y ~ C(arm, Treatment('b')) | x + q", holes, weights="w", subset="z > -2"),
    "borrowed constants": lambda: fit("y ~ I(t > cut) | C(k, levels=levels) + x"),
    "odd names": lambda: fit("`the y` ~ d | `2x` + I(`2x`**2)", frame().rename(columns={"x": "2x", "y": "the y"})),
}
_made: dict[str, Results] = {}


SLOW = ("repeats", "networks", "weights and interactions")  # files with rows of other fits are as hard to read


def made(name: str) -> Results:
    """Each fit is made once."""
    if name not in _made:
        _made[name] = FITS[name]()
    return _made[name]


def say(result: Results, new: pd.DataFrame) -> dict[str, Any]:
    """All that a result without rows has to say."""
    summary = result.summary(0.1)
    first = result.structure.names[-1]
    said: dict[str, Any] = {
        "text": str(result.summary()), "html": summary.as_html(), "latex": summary.as_latex(), "csv": summary.as_csv(),
        "markdown": summary.as_markdown(), "params": result.params, "bse": result.bse, "z": result.tvalues,
        "p": result.pvalues, "interval": result.conf_int(0.2), "cov": result.cov_params(), "nobs": result.nobs,
        "t": result.t_test(f"{first} = 0.1").frame(), "wald": result.wald_test(np.eye(len(result.params))[-2:]),
        "band": result.averages.band(rng=1), "repr": repr(result), "notes": result.facts.notes,
        "theta": result.theta(new), "cate": result.cate(new), "predict": result.predict(new), "facts": result.facts,
        "fixed": result.estimate("coefficient", sample="fixed").frame(), "dropped": dict(result.design.dropped),
        "same covariance": result.vcov(result.sampling.kind if result.sampling.kind != "HC1" else "robust").bse,
    }  # fmt: skip
    asks: list[Callable[[], Any]] = [
        result.ate, lambda: result.estimate("ame"), lambda: result.estimate("att"), result.get_margeff,
        lambda: result.get_margeff(dummy=True), lambda: result.ate("fixed"), lambda: result.effects,
    ]  # fmt: skip
    for ask in asks:
        try:
            found = ask()
        except (OptionError, NotAvailable, deepreg.DataError) as error:
            said[f"ask {len(said)}"] = type(error)
            continue
        said[f"ask {len(said)}"] = None if found is None else (found.frame(), found.cov, found.plug_in)
    if result.history is not None:
        said["history"] = [t.numpy() for t in result.history]
    return said


def identical(one: Any, other: Any, where: str = "") -> None:
    """Equality of every bit."""
    assert type(one) is type(other), where
    if isinstance(one, pd.DataFrame | pd.Series):
        (pd.testing.assert_frame_equal if isinstance(one, pd.DataFrame) else pd.testing.assert_series_equal)(
            one, other, check_exact=True, obj=where
        )
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other, err_msg=where)
    elif isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            identical(one[key], other[key], f"{where} {key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for a, b in zip(one, other, strict=True):
            identical(a, b, where)
    else:
        assert one == other, where


# what comes back


@pytest.mark.parametrize("name", FITS)
def test_a_loaded_result_has_the_digits_of_the_saved_one(name: str, tmp_path: Path) -> None:
    result, path, new = made(name), tmp_path / "fit.deepreg", frame(20, seed=9)
    new = new.rename(columns={"x": "2x"}) if name == "odd names" else new
    before = say(result, new)
    result.save(path)
    loaded = deepreg.load(path)
    identical(say(loaded, new), before)
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["again", "fit.deepreg"]


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in FITS])
def test_with_its_data_a_result_is_whole(name: str, tmp_path: Path) -> None:
    result, path, new = made(name), tmp_path / "fit", frame(20, seed=9)
    new = new.rename(columns={"x": "2x"}) if name == "odd names" else new
    result.save(path, data=True)
    loaded = deepreg.load(path)
    assert str(loaded.summary()) == str(result.summary()) and loaded.facts == result.facts
    pd.testing.assert_frame_equal(loaded.design.frame, result.design.frame)
    pd.testing.assert_index_equal(loaded.design.index, result.design.index)
    for one in ("theta", "cate", "predict"):
        identical(getattr(loaded, one)(), getattr(result, one)(), one)
        identical(getattr(loaded, one)(new), getattr(result, one)(new), one)
    identical(loaded.vcov("HC0").cov_params(), result.vcov("HC0").cov_params())
    v = result.design.variables[0]
    effect = targets.ATE(v.name, hi=v.levels[-1], lo=v.levels[0]) if v.levels else targets.ATE(v.name, hi=3, lo=1)
    try:
        wanted = result.estimate(effect)
    except NotAvailable:
        assert name == "regressed"
    else:
        identical(loaded.estimate(effect).frame(), wanted.frame())
        if wanted.groupable:
            groups = np.arange(result.nobs) % 3
            identical(loaded.estimate(effect).by(groups), wanted.by(groups))
    torch.testing.assert_close(loaded.scores.inverse, result.scores.inverse, rtol=0, atol=0)
    bare = tmp_path / "bare"
    loaded.save(bare)
    result.save(tmp_path / "first")
    assert bare.read_bytes() == (tmp_path / "first").read_bytes()


def test_a_fresh_process_reads_the_same_digits(tmp_path: Path) -> None:
    result, new = made("networks"), frame(20, seed=9)
    result.save(tmp_path / "fit")
    new.to_parquet(tmp_path / "new.parquet")
    code = """if True:
        import json, pandas, deepreg
        fit, new = deepreg.load("fit"), pandas.read_parquet("new.parquet")
        numbers = [fit.params, fit.bse, fit.cov_params(), fit.ate().frame()]
        numbers += [fit.theta(new), fit.cate(new), fit.predict(new)]
        texts = [str(fit.summary()), fit.summary().as_html()]
        print(json.dumps([*texts, *(v.to_numpy().ravel().tolist() for v in numbers)]))
    """
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    numbers = [result.params, result.bse, result.cov_params(), result.ate().frame()]
    numbers += [result.theta(new), result.cate(new), result.predict(new)]
    wanted = [str(result.summary()), result.summary().as_html(), *(v.to_numpy().ravel().tolist() for v in numbers)]
    assert json.loads(done.stdout) == wanted


def test_what_needs_the_rows_says_so(tmp_path: Path) -> None:
    result = made("controls and two-way clusters")
    result.save(tmp_path / "fit", targets=[targets.ATE("t", hi=3, lo=1), ("ame", "coefficient")])
    loaded = deepreg.load(tmp_path / "fit")
    further = targets.ATE("t", hi=3, lo=1)
    identical(loaded.estimate(further).frame(), result.estimate(further).frame())
    identical(loaded.estimate("ame", "coefficient").cov, result.estimate("ame", "coefficient").cov)
    np.testing.assert_allclose(loaded.estimate(targets.Coefficient("d")).frame(), result.estimate("ate").frame())
    asks: list[Callable[[], Any]] = [
        loaded.theta, loaded.cate, loaded.predict, lambda: loaded.vcov("HC0"), lambda: loaded.ate().by([0] * N),
        lambda: loaded.estimate(targets.ATE("t", hi=4, lo=1)), lambda: loaded.estimate("ate", "ame", "coefficient"),
        lambda: loaded.scores.theta, lambda: loaded.scores.nodes,
    ]  # fmt: skip
    for ask in asks:
        with pytest.raises(NotAvailable, match=r"Fit again, or .*save"):
            ask()
    with pytest.raises(OptionError, match="sample='both'"):
        loaded.ate("both")
    with pytest.raises(NotAvailable, match="without its rows"):
        loaded.save(tmp_path / "other", data=True)
    with pytest.raises(OptionError, match="'atee' is not known"):
        result.save(tmp_path / "other", targets="atee")
    with pytest.raises(deepreg.DataError, match="continuous"):
        result.save(tmp_path / "other", targets=[targets.ATE("t")])


def test_the_size_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    options = {"learners": ("constant", "smooth")}
    sizes = {}
    for n in (300, 3000):
        fit("y ~ d + t | x + C(k) | z", frame(n), cluster="g", options=options).save(tmp_path / f"{n}")
        sizes[n] = (tmp_path / f"{n}").stat().st_size
    assert abs(sizes[3000] / sizes[300] - 1) < 0.03, sizes


def test_indices_of_all_kinds(tmp_path: Path) -> None:
    n = 80
    base = frame(n)[["y", "d", "x"]]
    for i, index in enumerate([
        pd.RangeIndex(5, 5 + 2 * n, 2), pd.Index(np.arange(n) * 0.5, name="half"), pd.date_range("2020", periods=n),
        pd.MultiIndex.from_product([["a", "b"], range(n // 2)], names=["who", None]),
        pd.CategoricalIndex(["p", "q"] * (n // 2)),
        pd.Index(np.resize(np.array(["x", 1, 2.5], dtype=object), n), name=3),
    ]):  # fmt: skip
        result = fit("y ~ d | x", base.set_index(index))
        result.save(tmp_path / f"{i}", data=True)
        pd.testing.assert_frame_equal(deepreg.load(tmp_path / f"{i}").theta(), result.theta(), check_freq=False)
    result = fit("y ~ d | x", base.set_index(pd.interval_range(0, n)))
    result.save(tmp_path / "bare")
    with pytest.raises(NotAvailable, match=r"Interval.*reset_index"):
        result.save(tmp_path / "full", data=True)
    assert not (tmp_path / "full").exists()


# code is not saved


def half(v: Any) -> Any:
    return v / 2


third = np.cbrt  # no column's own function


def test_functions_of_the_formula_are_given_to_load(tmp_path: Path) -> None:
    result, new = fit("y ~ d | half(x) + I(third(z) * cut)"), frame(20, seed=9)
    result.save(tmp_path / "fit")
    loaded = deepreg.load(tmp_path / "fit", context={"half": half, "third": np.cbrt})
    identical(say(loaded, new), say(result, new))
    for context in (None, {"half": half}, {"half": half, "third": np.cbrt, "more": 1}):
        with pytest.raises(OptionError, match=r"borrowed 'half', 'third'.*\{'half': \.\.\., 'third': \.\.\.\}"):
            deepreg.load(tmp_path / "fit", context=context)
    made("constant").save(tmp_path / "plain")
    with pytest.raises(OptionError, match="leave context= out"):
        deepreg.load(tmp_path / "plain", context={"half": half})


class Halved(Linear):
    name = "halved"


def test_a_family_of_ones_own_is_given_to_load(tmp_path: Path) -> None:
    result, new = fit("y ~ d | x", family=Halved()), frame(20, seed=9)
    result.save(tmp_path / "fit")
    identical(say(deepreg.load(tmp_path / "fit", family=Halved()), new), say(result, new))
    for family in (None, Linear()):
        with pytest.raises(OptionError, match=r"a family of your own, Halved.*family=Halved"):
            deepreg.load(tmp_path / "fit", family=family)
    made("constant").save(tmp_path / "plain")
    with pytest.raises(OptionError, match="leave family= out"):
        deepreg.load(tmp_path / "plain", family=Halved())


class Own(targets.Coefficient):
    pass


def test_other_code_is_refused_when_saving(tmp_path: Path) -> None:
    def make(p: int, k: int) -> torch.nn.Module:
        return torch.nn.Linear(p, k)

    network = deepreg.Replicated(make)
    with pytest.raises(NotAvailable, match="own torch module"):
        fit("y ~ d | x", options={"learners": "network", "network": network}).save(tmp_path / "fit")
    with pytest.raises(NotAvailable, match=r"x\.cumsum.*'cumsum'.*context=\{'f': f\}"):
        fit("y ~ d | I(x.cumsum()) + z").save(tmp_path / "fit")
    with pytest.raises(NotAvailable, match=r"reaches for 'isna'"):
        fit("y ~ d | I(pd.isna(z) * z) + x").save(tmp_path / "fit")
    with pytest.raises(NotAvailable, match=r"Own\(name='d'\)"):
        made("constant").save(tmp_path / "fit", targets=[Own("d")])
    assert not list(tmp_path.iterdir())


# writing


def test_a_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "fit.any-name"
    path.write_text("mine")
    with pytest.raises(OptionError, match=r"exists. Type overwrite=True"):
        made("constant").save(path)
    assert path.read_text() == "mine"
    made("constant").save(str(path), overwrite=True)
    assert deepreg.load(str(path)).nobs == N
    with pytest.raises(OptionError, match=r"folder .* does not exist"):
        made("constant").save(tmp_path / "no" / "fit")


def test_writing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fit"
    made("constant").save(path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(persist.os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        made("repeats").save(path, overwrite=True)
    assert path.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == ["fit"]


# files that are not what they should be


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("sound") / "fit"
    made("controls and two-way clusters").save(path)
    return path.read_bytes()


def opened(raw: bytes) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return json.loads(header["__metadata__"]["deepreg"]), load_tensors(raw)


def closed(document: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> bytes:
    """A file with the digest that belongs to it, as anybody can write."""
    document = {**document, "sha256": persist._digest(document["content"], tensors)}
    return save_tensors(dict(tensors), {"deepreg": json.dumps(document)})


def refused(raw: bytes, path: Path, match: str = "deepreg") -> None:
    path.write_bytes(raw)
    with pytest.raises(FileError, match=match):
        deepreg.load(path)


def records(plain: Any, name: str) -> list[dict[str, Any]]:
    """The fields of every record of that name."""
    inside = plain.values() if isinstance(plain, dict) else plain if isinstance(plain, list) else ()
    found = [one for part in inside for one in records(part, name)]
    return [*([plain["fields"]] if isinstance(plain, dict) and plain.get("record") == name else []), *found]


def term(document: dict[str, Any], expr: str, how: str = "python") -> None:
    """Put a term into the place of a feature."""
    parts = dict(map(tuple, records(document, "Stored")[0]["parts"]["dict"]))  # type: ignore[arg-type]
    spec = dict(map(tuple, parts["features"]["fields"]["spec"]["value"]["dict"]))  # type: ignore[arg-type]
    spec["terms"][0] = [[expr, how]]


HOSTILE = [
    "__import__('os').system('touch pwned')", "().__class__.__base__.__subclasses__()", "(lambda: 1)()",
    "np.f2py.os.system('touch pwned')", "np.load('pwned')", "np.save('pwned', x)", "np.fromfile('pwned')",
    "x.to_csv('pwned')", "x.to_pickle('pwned')", "x.pipe(print)", "open('pwned', 'w')", "eval('1')", "exec('1')",
    "getattr(x, 'to_csv')('pwned')", "[x for x in (1,)]", "(x := 1)", "f'{x}'", "x[0]", "print(x)", "breakpoint()",
    "C(x, **{'levels': 1})", "C(x, _state={})", "bs(x, __builtins__)", "x.__class__", "globals()", "np", "os.system",
    "9**9**9**9", "x**(10**9)", "1 << 10**9", "'a' * 10**9", "10**400", "b'a'", "x if x else x", "1j * x", "x @ x",
    """bs(x, df="] or __import__('os').system('touch pwned') or x['")""",
    """C(k, levels=["] or __import__('os').system('touch pwned') or x["])""", "C(k, levels=['\\\\'])",
    "max((x, x), key=abs)", "max(x, x, key=len)", "abs", "round(abs)", "np.add(x, 1, out=x)", "C(x, levels=abs)",
    "x + len([1] * 10**9)", "x + len((x,) * 10**9)", "x + 0*((((7**64)**64)**64)**64)", "x * 2**60",
    "bs(x, df=3000000)", "poly(x, degree=100000)", "poly(x, 100000)", "np.array(x, dtype=x)",
    "(" * 300 + "x" + ")" * 300, "-" * 5000 + "x", "x + " * 3000 + "x", "x" * 20_000, "", "x +", "x\ny", "\x00",
]  # fmt: skip


@pytest.mark.parametrize("expr", HOSTILE, ids=range(len(HOSTILE)))
def test_no_term_of_a_file_runs_code(expr: str, sound: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    document, tensors = opened(sound)
    term(document, expr)
    (tmp_path / "fit").write_bytes(closed(document, tensors))
    with pytest.raises(FileError, match="no sound result"):
        deepreg.load(tmp_path / "fit").predict(frame(5))
    assert [one.name for one in tmp_path.iterdir()] == ["fit"]


@pytest.mark.parametrize("expr", ["max(x, {})", "{}", "np.add(x, {})", "max((x,), key={})"])
def test_a_name_is_a_column_of_its_own_part_and_nothing_else(expr: str, sound: bytes, tmp_path: Path) -> None:
    """A column that is listed and not used would be looked up among Python's own names when rows are predicted."""
    document, tensors = opened(sound)
    columns = records(document, "Stored")[0]["columns"]["dict"]
    columns.append(["exec", next(value for key, value in columns if key == "x")])
    term(document, expr.format("exec"))
    refused(closed(document, tensors), tmp_path / "fit", r"uses the name 'exec'|passes 'key'")


def test_the_family_of_a_result_fits_its_estimates(sound: bytes, tmp_path: Path) -> None:
    document, tensors = opened(sound)
    records(document, "Structure")[0]["family"] = {"record": "Multinomial", "fields": {"classes": ["a", "b", "c"]}}
    refused(closed(document, tensors), tmp_path / "fit", "names|columns of theta|structure")


def test_one_of_several_effects_is_had_from_those_kept(tmp_path: Path) -> None:
    data = frame(N).assign(a=np.where(np.arange(N) % 3 == 0, "u", "v"), b=np.arange(N) % 2)
    fit = deepreg.structural("y ~ b + C(a) | x", data).fit(folds=2, learners="smooth", rng=0, progress=False)
    wanted = targets.Mean("b", at=[1, 0])
    fit.save(tmp_path / "fit", targets=[wanted])
    loaded = deepreg.load(tmp_path / "fit")
    for ask in (lambda r: r.average_effect("b"), lambda r: r.estimate(targets.ATE("b")), lambda r: r.estimate(wanted)):
        np.testing.assert_allclose(ask(loaded).frame(), ask(fit).frame(), rtol=1e-12)
    with pytest.raises(deepreg.OptionError, match="two values that print as 1"):
        fit.estimate(targets.Mean("b", at=(1, 1.0)))
    for odd in (np.zeros((2, 2)), [[1]]):
        with pytest.raises(deepreg.OptionError, match="give one value of b, or a list"):
            fit.estimate(targets.Mean("b", at=odd))
    for path in (None, 5):
        with pytest.raises(deepreg.OptionError, match="takes the path of a file"):
            deepreg.load(path)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["literal", "lookup", "unknown"])
def test_no_term_of_another_kind_does(how: str, sound: bytes, tmp_path: Path) -> None:
    document, tensors = opened(sound)
    term(document, "__import__('os')", how)
    refused(closed(document, tensors), tmp_path / "fit")


def test_harmless_terms_are_read(sound: bytes, tmp_path: Path) -> None:
    """The check of a file is not one that refuses everything."""
    for expr in ("np.log1p(abs(x)) / 2 - x**2", "C(k, levels=['u', 'v v'])", "x.clip(0, 1)", "(x > 0) & ~(x == 2)"):
        document, tensors = opened(sound)
        term(document, expr)
        (tmp_path / "fit").write_bytes(closed(document, tensors))
        assert deepreg.load(tmp_path / "fit").nobs == N


def test_no_other_class_is_made(sound: bytes, tmp_path: Path) -> None:
    edits: list[Callable[[dict[str, Any]], object]] = [
        lambda c: c["result"].update(record="Popen"),
        lambda c: c["result"].update(record="Model"),
        lambda c: c.update(result={"kind": "pickle", "value": "x"}),
        lambda c: c.update(result={"call": "os.system"}),
        lambda c: c.update(result=5),
        lambda c: c.update(result={"again": 0}),
        lambda c: c.update(result={"tensor": "t0"}),
        lambda c: c.pop("result"),
        lambda c: c["result"]["fields"].pop("law"),
        lambda c: c["result"]["fields"].update(more=1),
        lambda c: c["result"]["fields"].update(facts=c["result"]["fields"]["structure"]),
        lambda c: records(c, "Design")[0].update(terms=["Intercept", "d", 5]),
        lambda c: records(c, "Design")[0].update(n="many"),
        lambda c: records(c, "Design")[0].update(n=True),
        lambda c: records(c, "Coordinates")[0].update(shift={"float": "nan"}),
        lambda c: records(c, "Coordinates")[0].update(shift={"float": "1e999"}),
        lambda c: records(c, "Multinomial")[0].update(classes=["0", "1", "2"]),
        lambda c: records(c, "Sampling")[0].update(weight={"again": 10**9}),
        lambda c: records(c, "Stored")[0].update(
            context={"dict": [["x", {"record": "Borrowed", "fields": {"name": 1}}]]}
        ),
    ]  # fmt: skip
    for edit in edits:
        document, tensors = opened(sound)
        edit(document["content"])
        path = tmp_path / "fit"
        path.write_bytes(closed(document, tensors))
        with pytest.raises((FileError, OptionError)):
            deepreg.load(path)
    for name in ("EstimatedLaw", "Model", "Popen", "object", "", None, ["Results"]):
        with pytest.raises(FileError, match="nothing that a result is made of"):
            portable.schema(Results, None, {}).named(name)


def test_no_network_is_larger_than_its_weights(tmp_path: Path) -> None:
    made("networks").save(tmp_path / "fit")
    for change, why in (
        ({"hidden": [10**6, 10**6]}, "shape of weights"), ({"hidden": [20]}, "shape of weights"),
        ({"hidden": [20, -20]}, "whole numbers above 0"), ({"activation": "eval"}, "allowed are silu"),
    ):  # fmt: skip
        document, tensors = opened((tmp_path / "fit").read_bytes())
        records(document, "MLP")[0].update(change)
        refused(closed(document, tensors), tmp_path / "bad", why)


def test_what_is_said_of_the_errors_belongs_to_the_fit(sound: bytes, tmp_path: Path) -> None:
    for record, change, why in (
        ("Sampling", {"ways": [["g", 7], ["h", 30]]}, "numbers of clusters"), ("Sampling", {"ways": []}, "numbers of"),
        ("Sampling", {"ways": [["g", "60"], ["h", 30]]}, "Sampling.ways"), ("Estimates", {"constant": True}, "covar"),
        ("Estimates", {"sample": "fixed"}, "covariance: "), ("Estimates", {"sample": 1}, "Estimates.sample"),
    ):  # fmt: skip
        document, tensors = opened(sound)
        records(document, record)[0].update(change)
        refused(closed(document, tensors), tmp_path / "bad", why)


@pytest.mark.parametrize(
    "name", ["controls and two-way clusters", pytest.param("networks", marks=pytest.mark.slow), "constant"]
)
def test_every_tensor_has_its_shape_and_is_finite(name: str, tmp_path: Path) -> None:
    made(name).save(tmp_path / "fit")
    document, tensors = opened((tmp_path / "fit").read_bytes())
    free = {tensor["tensor"] for one in records(document, "Moments") for tensor in one.values()}
    arrays = [one["plug_in"]["value"] for one in records(document, "Estimates") if one["plug_in"]]
    free |= {one[2]["tensor"] for one in arrays if isinstance(one[2], dict)}
    free |= {v["tensor"] for one in records(document, "History") for v in one.values()}
    for key, tensor in tensors.items():
        more = tensor.new_zeros(1, *tensor.shape[1:])
        longer = torch.cat([tensor, more]) if tensor.dim() else more  # an offset that is not there has no rows
        refused(closed(document, {**tensors, key: longer}), tmp_path / "bad", "no sound result")
        if tensor.is_floating_point() and tensor.numel() and key not in free:
            refused(closed(document, {**tensors, key: tensor / 0}), tmp_path / "bad", "no sound result")
    fewer = {one: value for one, value in tensors.items() if one != "t3"}
    refused(closed(document, fewer), tmp_path / "bad", "no sound result")


def test_a_file_of_another_format_says_what_reads_it(sound: bytes, tmp_path: Path) -> None:
    document, tensors = opened(sound)
    document["content"]["versions"]["deepreg"] = "9.1.0"
    for change in ({"version": 2}, {"format": "something else"}, {"version": "1"}):
        refused(
            closed({**document, **change}, tensors), tmp_path / "fit", r"Install deepreg-structural 9\.1\.0 or newer"
        )


def test_bombs_are_not_opened(sound: bytes, tmp_path: Path) -> None:
    path = tmp_path / "fit"

    def header(text: bytes, length: int | None = None) -> bytes:
        return (len(text) if length is None else length).to_bytes(8, "little") + text

    deep = json.dumps({"__metadata__": {"deepreg": "[" * 10**6}})
    refused(header(deep.encode()), path, "no sound result")
    refused(header(b'{"__metadata__":' * 10**5), path, "no sound result")
    refused(header(b"{}" + b" " * 17 * 2**20), path, "header would have 17")
    refused(header(b"{}", 2**62), path, "header would have")
    refused(header(b'{"a":' + b"1" * 10**6 + b"}"), path, "no sound result")
    refused(header(b'{"__metadata__":{"deepreg":"NaN"}}'), path, "no sound result")
    refused(header(b'{"__metadata__":{"deepreg":"{}"}}'), path, "no sound result")
    document, tensors = opened(sound)
    whole = json.loads(sound[8 : 8 + int.from_bytes(sound[:8], "little")])
    whole["t0"]["shape"] = [10**12, 10**12]
    refused(header(json.dumps(whole).encode()) + sound[8 + int.from_bytes(sound[:8], "little") :], path, "no sound")
    document["content"]["result"] = {"list": json.loads("[" * 900 + "]" * 900)}
    refused(closed(document, tensors), path, "no sound result")


def test_other_files_are_named_as_such(tmp_path: Path) -> None:
    import pickle

    for raw in (b"", b"\x80", pickle.dumps({"a": 1}), b"PK\x03\x04 a zip file", b"y,x\n1,2\n3,4\n", b"\x00" * 100):
        refused(raw, tmp_path / "fit", r"fit' is no (sound )?result of deepreg")
    refused(save_tensors({"a": torch.ones(3)}), tmp_path / "fit", "header cannot be read")
    for place in (tmp_path / "none", tmp_path):
        with pytest.raises(FileError, match="cannot be read"):
            deepreg.load(place)


def test_a_cut_file_is_damaged(sound: bytes, tmp_path: Path) -> None:
    for end in np.linspace(0, len(sound) - 1, 50).astype(int):
        refused(sound[:end], tmp_path / "fit")
    refused(sound + b"\0", tmp_path / "fit")


def test_a_flipped_bit_is_seen(sound: bytes, tmp_path: Path) -> None:
    """Of 200 files with one byte changed, each gives the same digits or is refused; most are refused."""
    rng, seen = np.random.default_rng(0), 0
    wanted = str(made("controls and two-way clusters").summary())
    header = int.from_bytes(sound[:8], "little")
    places = [*range(8), *rng.integers(8, 8 + header, 96), *rng.integers(8 + header, len(sound), 96)]
    for place in places:
        raw = bytearray(sound)
        raw[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "fit").write_bytes(raw)
        try:
            loaded = deepreg.load(tmp_path / "fit")
        except FileError:
            seen += 1
            continue
        assert str(loaded.summary()) == wanted
    assert seen >= 195


def test_hundreds_of_combinations_are_kept_only_where_asked(tmp_path: Path) -> None:
    data = frame(N)
    result = deepreg.structural("y ~ a + b", data.assign(
        a=np.arange(N) % 2, b=np.arange(N) % 3 // 2)).fit()  # fmt: skip
    result.save(tmp_path / "bare")
    with pytest.raises(NotAvailable, match="Kept are"):
        deepreg.load(tmp_path / "bare").estimate("combinations")
    result.save(tmp_path / "asked", targets="combinations")
    pd.testing.assert_frame_equal(
        deepreg.load(tmp_path / "asked").estimate("combinations").frame(), result.estimate("combinations").frame()
    )
