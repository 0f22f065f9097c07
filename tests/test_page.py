"""The report page: what it holds, that it needs nothing else, and that a browser shows it without complaint."""

import base64
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

import deepreg
from deepreg.errors import NotAvailable, OptionError
from deepreg.page import differences, page
from deepreg.reading import readings

RNG = np.random.default_rng(0)
FAST = {"folds": 2, "members": 1, "learners": ("smooth", "network"), "rng": 0, "progress": False}
HOSTILE = '<script>alert("1")</script> & "x"'


@pytest.fixture(scope="module")
def data():
    sim = deepreg.simulate.tutorial(n=300, rng=0).frame
    return sim.assign(g=pd.Categorical(np.where(sim.x2 > 0, "a&b", "<i>c</i>")))


@pytest.fixture(scope="module")
def result(data):
    return deepreg.structural("y ~ treatment | x0 + g", data).fit(**FAST)


@pytest.fixture(scope="module")
def text(result):
    return page(result)


class Tags(HTMLParser):
    """Every tag with its attributes, and the tags left open."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_it_holds_the_tables_the_pictures_and_the_call(result, text):
    assert result.summary().as_html() in text
    low, high = result.ate().interval()[0]
    assert f"{result.ate().value[0]:.4f} (95% interval {low:.3f} to {high:.3f})" in text
    for title in ("Effects of single rows", "Effects along each feature", "Overlap", "Training"):
        assert f"<h2>{title}</h2>" in text
    pictures = [attrs["src"] for tag, attrs in Tags(text).found if tag == "img"]
    assert len(pictures) == len(set(pictures)) == 1 + 2 + 3 + 1 + 1
    for source in pictures:
        assert base64.b64decode(source.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")
    call = re.search(r"<pre>(.*?)</pre>", text, re.DOTALL)[1]
    assert "folds=2, members=1" in call and "rng=0" in call and "y ~ treatment | x0 + g" in call


def test_it_says_whether_effects_differ(result, text):
    shown = text[text.index("<h2>Whether effects differ</h2>") : text.index("<h2>Overlap</h2>")]
    check = result.heterogeneity
    assert check.test().summary().body[0].as_html() in shown
    slope, apart, top = (
        check.calibration().slope, check.gates().difference, check.gain(relative=True, share=[0.2, 1]).estimates
    )  # fmt: skip
    for words, found in (("the slope, ", slope), ("less the first is ", apart), ("difference is ", top)):
        low, high = found.interval()[0]
        assert f"{words}{found.value[0]:.3f} (95% interval {low:.3f} to {high:.3f})" in shown
    assert shown.count("<figcaption>") == 3 and "among 20% treated" in shown and "of 5 groups" in shown


def test_effects_that_cannot_be_compared_say_why(data):
    same = differences(deepreg.structural("y ~ treatment | x0", data).fit(**FAST | {"learners": "constant"}))
    assert len(same.tables) == 1 and not same.pictures and "no slope" in same.missing[0]
    arms = data.assign(arm=pd.Categorical(np.where(data.treatment == 0, "a", np.where(data.x1 > 0, "b", "c"))))
    several = differences(deepreg.structural("y ~ C(arm) | x0", arms).fit(**FAST | {"learners": "smooth"}))
    assert [table.title for table in several.tables] == ["arm[b]", "arm[c]"]
    assert [one.title for one in several.pictures][3:] == [f"{of}: arm[c]" for of in ("Calibration", "Groups", "Gain")]


def test_the_call_makes_the_same_result(result, text, data):
    names = {"deepreg": deepreg, "data": data}
    exec(re.search(r"<pre>(.*?)</pre>", text, re.DOTALL)[1].replace("&#39;", "'"), names)
    pd.testing.assert_series_equal(names["result"].params, result.params, check_exact=True)


def test_every_option_is_in_the_call(data):
    data = data.assign(w=1 + (data.x1 > 0))
    model = deepreg.structural(
        "y ~ treatment | x0", data, deepreg.families.Gaussian, weights="w", subset="x0 < 2", missing="raise",
        assignment=deepreg.KnownLaw(probability=0.5), cov_type="HC0",
    )  # fmt: skip
    fitted = model.fit(
        folds=3, members=1, repeats=2, penalty=0.01, learners=["smooth", "network"], rng=4, progress=False,
        network=deepreg.networks.MLP((5,)), trainer=deepreg.trainers.LBFGS(steps=20), device="cpu",
    ).vcov({"CRV1": "g"}, data)  # fmt: skip
    code = fitted.facts.call.code()
    names = {"deepreg": deepreg, "data": data}
    exec(code, names)
    again = names["result"]
    pd.testing.assert_frame_equal(again.cov_params(), fitted.cov_params(), check_exact=True)
    assert again.facts.call == fitted.facts.call and again.sampling.kind == "cluster"
    assert 'missing="raise"' in code or "missing='raise'" in code
    plain = deepreg.structural("y ~ treatment", data).fit()
    assert plain.facts.call.code().endswith("result = model.fit()")


def test_it_needs_nothing_and_says_so(text):
    tags = Tags(text)
    assert tags.open == []
    policy = next(attrs["content"] for tag, attrs in tags.found if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in tags.found}
    for _, attrs in tags.found:
        assert all(value.startswith("data:") for name, value in attrs.items() if name in ("src", "href"))
    assert "url(" not in text and "@import" not in text


def test_two_pages_of_one_seed_are_equal_to_the_byte(text, data):
    assert page(deepreg.structural("y ~ treatment | x0 + g", data).fit(**FAST)) == text


def test_names_cannot_break_out(data):
    odd = data.rename(columns={"y": HOSTILE, "x0": "a <b>"})
    formula = f"Q('{HOSTILE}') ~ treatment | Q('a <b>')".replace('"', '\\"')
    try:
        made = deepreg.structural(formula, odd)
    except deepreg.FormulaError:
        odd = odd.rename(columns={HOSTILE: "<script>y</script>"})
        made = deepreg.structural("`<script>y</script>` ~ treatment | `a <b>`", odd)
    shown = page(made.fit(**FAST))
    tags = Tags(shown)
    assert "script" not in {tag for tag, _ in tags.found} and tags.open == [] and "&lt;b&gt;" in shown


def test_fits_of_every_kind_have_a_page(data, tmp_path):
    constant = deepreg.structural("y ~ treatment", data, cluster="g").fit()
    shown = page(constant)
    assert "<h2>Coefficients</h2>" in shown and "Overlap" not in shown and "Whether effects" not in shown
    assert "cluster=&#39;g&#39;" in shown
    dose = deepreg.structural("y ~ x1 | x0", data).fit(**FAST)
    assert "<h2>Mean outcome along the treatment</h2>" in page(dose)
    regressed = deepreg.structural("y ~ x1 | x0", data).fit(**FAST | {"folds": 3}, hessian="regressed")
    assert "needs the law of the treatment" in page(regressed)
    rare = data.assign(c=np.where(np.arange(300) == 7, "one", "rest"))
    assert "The level &#39;one&#39; has a single row" in page(deepreg.structural("y ~ x1 | x0 + c", rare).fit(**FAST))
    dose.save(tmp_path / "a.deepreg")
    bare = page(deepreg.load(tmp_path / "a.deepreg"))
    assert "not saved" in bare and dose.summary().as_html() in bare


def test_writing(result, text, tmp_path):
    place = result.report(tmp_path / "r.html")
    assert place.read_text("utf-8") == text and list(tmp_path.iterdir()) == [place]
    with pytest.raises(OptionError, match=r"exists. Type overwrite=True"):
        result.report(place)
    assert result.report(str(place), overwrite=True) == place
    with pytest.raises(OptionError, match=r"The folder .* does not exist"):
        result.report(tmp_path / "no" / "r.html")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "report.html.j2").write_text("{{ outcome }} of {{ formula }}")
    result.report(place, overwrite=True, templates=tmp_path / "own")
    assert place.read_text("utf-8") == "y of y ~ treatment | x0 + g\n"


def test_without_matplotlib_it_says_what_to_install(result, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    with pytest.raises(NotAvailable, match="pip install matplotlib"):
        result.report(tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


def words(result):
    return [one.word for one in readings(result.facts, result.averages, result.overlap)]


def test_the_diagnostics_are_read_as_they_are(result, data):
    assert words(result) == ["good", "good", "good"]
    noise = deepreg.structural("n ~ treatment | x0", data.assign(n=RNG.normal(size=300))).fit(**FAST)
    lines = list(readings(noise.facts, noise.averages, noise.overlap))
    worse = noise.facts.loss["theta(x)"] >= noise.facts.loss["homogeneous"]
    assert lines[0].word == ("note" if worse else "good") and f"{noise.rsquared:.2f}" in lines[0].text
    close = data.assign(t=data.x0 + 0.05 * RNG.normal(size=300))
    found = deepreg.structural("y ~ t | x0", close).fit(**FAST)
    assert words(found)[1] == "caution" and f"{found.overlap.spread:.0%}" in next(
        one.text for one in readings(found.facts, found.averages, found.overlap) if one.word == "caution"
    )
    thin = data.assign(t=(data.x0 + 0.3 * RNG.normal(size=300) > 0).astype(int))
    found = deepreg.structural("y ~ t | x0", thin).fit(**FAST)
    assert words(found)[1] == "caution" and found.overlap.trimmed > 15
    constant = deepreg.structural("y ~ treatment", data).fit()
    assert words(constant) == ["note"]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium here; see make browser")
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_it_without_complaint(text, tmp_path, width):
    probe = (
        "<script>addEventListener('load', () => { const w = document.documentElement; document.title = 'wide ' + "
        "w.scrollWidth + ' broken ' + [...document.images].filter(i => !i.naturalWidth).length })</script></body>"
    )
    policy = "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    (tmp_path / "r.html").write_text(
        text.replace("</body>", probe).replace("style-src 'unsafe-inline'", policy), encoding="utf-8"
    )
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},2000", "--v=0"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=5000", f"--user-data-dir={tmp_path}/profile"]
    done = subprocess.run(
        [*command, "--dump-dom", f"file://{tmp_path}/r.html"], capture_output=True, text=True, timeout=120
    )
    shown = re.search(r"<title>wide (\d+) broken (\d+)</title>", done.stdout)
    assert shown is not None, done.stderr
    assert int(shown[1]) <= max(width, 500) and int(shown[2]) == 0  # headless windows are not narrower than 500
    assert "CONSOLE" not in done.stderr
