"""Autocorrelations and semivariograms of residuals against nlme's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.errors import DesignError

# nlme 3.1-162:
#   f <- gls(distance ~ age*Sex, Orthodont, correlation=corCAR1(form=~age|Subject), weights=varIdent(form=~1|Sex))
#   for (r in c("response","pearson","normalized")) { ACF(f, resType=r); Variogram(f, form=~age|Subject, resType=r) }
#   s <- lme(Reaction ~ Days, lme4::sleepstudy, random=~1|Subject); ACF(s)
ACF = {
    "raw": [1.0, 0.614389215945756, 0.677719079919806, 0.511404094280578],
    "pearson": [1.0, 0.727619613102887, 0.756046960682550, 0.676900827554378],
    "normalized": [1.0, -0.286361017147382, 0.425791239771815, 0.114874770988106],
}
VARIOGRAM = {
    "raw": [1.92699657786911, 1.58394060465619, 2.30593216378491],
    "normalized": [1.291276247963382, 0.552941769108623, 0.694668118769302],
}
SLEEP = [0.3825123300102833, 0.0891247688300834, -0.1111483239120345, -0.1434620934236281, -0.3738768669154570]
# nlminb stops when its parameters have about that many digits.
NLME = 2e-5


@pytest.fixture(scope="module")
def orthodont() -> bl.REMLResult:
    # Unsorted on purpose: times say where rows belong.
    data = bl.load_dataset("Orthodont").sample(frac=1.0, random_state=1)
    return bl.Model("distance ~ age * Sex", data, residual="by(Sex) + car1(age | Subject)").fit()


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.mark.parametrize("kind", ACF)
def test_autocorrelation_is_that_of_nlme(orthodont: bl.REMLResult, kind: Any) -> None:
    found = orthodont.acf(kind, level=0.9)
    assert found.index.tolist() == [0, 2, 4, 6]
    assert found["pairs"].tolist() == [108, 81, 54, 27]
    np.testing.assert_allclose(found["acf"], ACF[kind], atol=NLME)
    np.testing.assert_allclose(found["limit"][1:], 1.6448536269514722 / np.sqrt([81, 54, 27]))
    phi = orthodont.estimates()["residual_phi"]
    expected = [1.0, 0, 0, 0] if kind == "normalized" else phi ** np.array([0, 2, 4, 6])
    np.testing.assert_allclose(found["expected"], expected, rtol=1e-12)


@pytest.mark.parametrize("kind", VARIOGRAM)
def test_the_semivariogram_is_that_of_nlme(orthodont: bl.REMLResult, kind: Any) -> None:
    found = orthodont.semivariogram(kind)
    assert found["distance"].tolist() == [2.0, 4.0, 6.0]
    assert found["pairs"].tolist() == [81, 54, 27]
    np.testing.assert_allclose(found["semivariogram"], VARIOGRAM[kind], rtol=1e-4)


def test_of_a_model_with_independent_residuals() -> None:
    data = bl.load_dataset("sleepstudy")
    fit = bl.Model("Reaction ~ Days + (1 | Subject)", data).fit()
    by_order, by_days = fit.acf(), fit.acf(time="Days")
    np.testing.assert_allclose(by_order["acf"][1:6], SLEEP, atol=1e-7)
    pd.testing.assert_frame_equal(by_order, by_days)
    pd.testing.assert_frame_equal(by_days, fit.acf(time=data["Days"], by=data["Subject"]))
    assert (fit.acf()["expected"][1:] == 0).all()


def test_gaps_are_gaps_and_distances_are_classes() -> None:
    data = bl.load_dataset("sleepstudy")
    data = data[~data["Days"].isin([1, 2, 6])].sample(frac=1.0, random_state=2)
    fit = bl.Model("Reaction ~ Days", data, residual="ar1(Days | Subject)").fit()
    wide = pd.Series(fit.residuals("pearson", scaled=True).to_numpy(), [data["Subject"], data["Days"]]).unstack()
    found = fit.acf("pearson", max_lag=9)
    for lag in found.index[1:]:
        product = wide.to_numpy() * wide.shift(-lag, axis=1).reindex(columns=wide.columns).to_numpy()
        days = wide.columns.to_numpy()
        pairs = [(a, b) for a in range(len(days)) for b in range(len(days)) if days[b] - days[a] == lag]
        product = np.concatenate([wide.iloc[:, a] * wide.iloc[:, b] for a, b in pairs])
        assert found.loc[lag, "pairs"] == product.size
        assert found.loc[lag, "acf"] == pytest.approx(product.mean() / (wide.to_numpy() ** 2).mean(), rel=1e-10)
    classes = fit.semivariogram(bins=3)
    assert classes["pairs"].sum() == 18 * 21
    near = fit.semivariogram(max_distance=2.5)
    assert near["distance"].tolist() == [1.0, 2.0]


def test_figures_show_the_tables(orthodont: bl.REMLResult) -> None:
    axes = bl.plot_acf(orthodont, "pearson")
    points = next(line for line in axes.lines if line.get_marker() == "o")
    np.testing.assert_allclose(points.get_ydata(), orthodont.acf("pearson")["acf"])
    assert "Subject" in axes.get_title(loc="left")
    axes = bl.plot_semivariogram(orthodont, "raw")
    np.testing.assert_allclose(axes.collections[0].get_offsets()[:, 1], orthodont.semivariogram("raw")["semivariogram"])
    for draw in (bl.plot_acf, bl.plot_semivariogram):
        with pytest.raises(DesignError, match="fit"):
            draw("fit")  # type: ignore[arg-type]


def test_words(orthodont: bl.REMLResult) -> None:
    with pytest.raises(DesignError, match=r"raw.*pearson.*normalized"):
        orthodont.acf("deviance")  # type: ignore[arg-type]
    with pytest.raises(DesignError, match="no column that the formula uses"):
        orthodont.acf(time="visit")
    with pytest.raises(DesignError, match="shape"):
        orthodont.acf(time=[1.0, 2.0])
    with pytest.raises(DesignError, match="max_lag"):
        orthodont.acf(max_lag=0)
    data = bl.load_dataset("Orthodont")
    with pytest.raises(DesignError, match="Give them: by="):
        bl.Model("distance ~ age", data, residual="by(Sex)").fit().acf()
    with pytest.raises(DesignError, match="beside one another"):
        bl.Model("distance ~ age", data, residual="by(Sex)").fit().acf(by=np.arange(108))


@pytest.mark.parametrize("residual", ["cs(Subject)", "by(Sex) + ar1(age | Subject)", "us(age | Subject, by=Sex)"])
def test_groups_of_the_residual_structure_have_their_name(residual: str) -> None:
    data = bl.load_dataset("Orthodont").sample(frac=1.0, random_state=3)
    fit = bl.Model("distance ~ age", data, residual=residual).fit()
    found = fit.acf("raw")
    assert found.attrs["by"] == "Subject"
    # Whichever way the groups are named, the times are those of the structure.
    pd.testing.assert_frame_equal(found, fit.acf("raw", by="Subject"))
    pd.testing.assert_frame_equal(found, fit.acf("raw", by=data["Subject"]))
