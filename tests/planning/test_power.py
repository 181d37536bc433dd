"""Power by simulation against closed forms: noncentral t and F, and the F test of a variance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

import bayeslmm as bl
from bayeslmm.planning import power_run as verb
from bayeslmm.planning.chunk import run_power


def blocks(subjects: int, arms: str = "ab", repeats: int = 1) -> bl.Plan:
    rows = [(f"s{i}", arm) for i in range(subjects) for arm in arms for _ in range(repeats)]
    return bl.Plan("y ~ arm + (1 | s)", pd.DataFrame(rows, columns=["s", "arm"]))


def one_way(groups: int, size: int) -> bl.Plan:
    return bl.Plan("y ~ 1 + (1 | g)", pd.DataFrame({"g": np.repeat([f"g{i}" for i in range(groups)], size)}))


def assert_share(row: pd.Series, exact: float, column: str = "power") -> None:
    """Within 4.5 Monte Carlo errors."""
    assert abs(row[column] - exact) <= 4.5 * np.sqrt(exact * (1 - exact) / row["n"]) + 1e-12


def paired(subjects: int, delta: float, alpha: float = 0.05) -> float:
    """Power of the paired t test with sigma = 1."""
    df, shift = subjects - 1, delta / np.sqrt(2.0 / subjects)
    limit = stats.t.ppf(1 - alpha / 2, df)
    return float(stats.nct.sf(limit, df, shift) + stats.nct.cdf(-limit, df, shift))


# Groups differ so much that no fit is singular, where degrees of freedom would be others.
KNOWN = {"sds": {"s": 20}, "sigma": 1, "progressbar": False}


@pytest.mark.parametrize("ddf", ["satterthwaite", "kenward-roger"])
def test_paired_design(ddf: str) -> None:
    found = bl.power(
        blocks(4), {"Intercept": 0, "arm[b]": [0.0, 1.2]}, groups=[6, 12], n=1000, ddf=ddf,
        parameters="arm[b]", **KNOWN,
    ).table  # fmt: skip
    assert len(found) == 4
    for _, row in found.iterrows():
        assert row["rows"] == 2 * row["groups"]
        assert row["singular"] == 0
        assert_share(row, paired(int(row["groups"]), row["arm[b]"]))
        # The mean width of a t interval of a difference with sigma = 1.
        df = row["groups"] - 1
        mean_sd = np.sqrt(2 / df) * np.exp(stats_gamma(df))
        expected = 2 * stats.t.ppf(0.975, df) * np.sqrt(2 / row["groups"]) * mean_sd
        assert row["width"] == pytest.approx(expected, rel=5 / np.sqrt(2 * df * row["n"]))


def stats_gamma(df: float) -> float:
    from scipy.special import gammaln

    return float(gammaln((df + 1) / 2) - gammaln(df / 2))


def test_normal_quantiles_and_alpha() -> None:
    """With z, the share is that of |t| beyond 1.96, in the noncentral t distribution."""
    found = bl.power(
        blocks(5), {"Intercept": 0, "arm[b]": 1.0}, n=2000, ddf="z", alpha=0.2, parameters="arm[b]", **KNOWN
    )
    shift, limit = 1.0 / np.sqrt(2 / 5), stats.norm.ppf(0.9)
    assert_share(found.table.iloc[0], stats.nct.sf(limit, 4, shift) + stats.nct.cdf(-limit, 4, shift))


def test_randomised_blocks_by_a_joint_test() -> None:
    """F of three treatments in blocks: noncentral F with 2 and 2 (J - 1) degrees of freedom."""
    effects = {"Intercept": 0, "arm[b]": 0.6, "arm[c]": 1.2}
    row = bl.power(blocks(8, "abc"), effects, n=100, parameters=["arm"], **KNOWN).table.iloc[0]
    means = np.array([0, 0.6, 1.2])
    shift = 8 * ((means - means.mean()) ** 2).sum()
    assert_share(row, float(stats.ncf.sf(stats.f.ppf(0.95, 2, 14), 2, 14, shift)))


def test_variance_in_a_balanced_layout() -> None:
    """The exact test of a variance is F; REML says zero where F is below 1 (PAMM's table, in closed form)."""
    sizes = {"groups": [5, 12], "replicates": [3, 6]}
    found = bl.power(
        one_way(4, 4), {"Intercept": 0}, {"g": [0.0, 1.0]}, sigma=1, parameters="sd_g[Intercept]", n=1000,
        progressbar=False, **sizes,
    ).table  # fmt: skip
    assert len(found) == 8
    for _, row in found.iterrows():
        J, m = int(row["groups"]), int(row["replicates"])
        df, scale = (J - 1, J * (m - 1)), 1 + m * row["sd_g[Intercept]"] ** 2
        assert row["test"] == "exact RLRT"
        assert_share(row, float(stats.f.sf(stats.f.ppf(0.95, *df) / scale, *df)))
        assert_share(row, float(stats.f.cdf(1 / scale, *df)), "singular")


def test_a_total_is_split_among_groups() -> None:
    found = bl.power(
        one_way(4, 4), {"Intercept": 0}, {"g": 1}, sigma=1, groups=[5, 10, 20], total=60, parameters="g", n=4,
        progressbar=False,
    ).table  # fmt: skip
    assert found["rows"].tolist() == [60, 60, 60]


def test_correlated_slopes_have_the_level_of_their_test_at_most() -> None:
    """Under the null hypothesis the mixture of chi-squares errs on the side of caution in small samples."""
    rows = pd.DataFrame([(f"s{i}", x) for i in range(20) for x in range(5)], columns=["s", "x"])
    plan = bl.Plan("y ~ x + (x | s)", rows)
    effects = {"Intercept": 0, "x": 0}
    found = bl.power(plan, effects, {"s": [1, 0]}, sigma=1, parameters=["s[x]", "x"], n=600, progressbar=False)
    row = found.table.set_index("parameter").loc["sd_s[x]"]
    assert row["test"] == "chi-bar-square"
    assert row["power"] <= 0.05 + 4.5 * np.sqrt(0.05 * 0.95 / 600)


def test_assurance_is_power_averaged_over_the_prior() -> None:
    exact = integrate.quad(lambda d: paired(8, d) * stats.norm.pdf(d, 1.0, 0.5), -2, 4)[0]
    for given in ((1.0, 0.5), bl.Normal(1.0, 0.5)):
        found = bl.power(blocks(8), {"Intercept": 0, "arm[b]": given}, n=2000, parameters="arm[b]", **KNOWN)
        assert_share(found.table.iloc[0], exact)
    assert "Assurance" in str(found)
    assert "assurance" in found.plot().get_ylabel().lower()


def test_share_of_hdis_that_exclude_zero() -> None:
    found = bl.power(blocks(8), {"Intercept": 0, "arm[b]": [0, 6]}, n=20, hdi=6, parameters="arm[b]", **KNOWN).table
    own = found[found["test"] == "hdi"].set_index("arm[b]")
    assert own["n"].tolist() == [6, 6]
    assert own.loc[6.0, "power"] == 1
    assert own.loc[0.0, "power"] <= 0.5
    # The widths are those of the t intervals of the same responses, nearly: flat priors for the fixed effects.
    assert own["width"].to_numpy() == pytest.approx(found[found["test"] != "hdi"]["width"], rel=0.4)


def test_profile_widths_are_those_of_confint() -> None:
    plan = one_way(6, 4)
    found = bl.power(plan, {"Intercept": 5}, {"g": 2}, sigma=1, sd_widths=True, n=3, parameters="g", progressbar=False)
    study = bl.power(plan, {"Intercept": 5}, {"g": 2}, sigma=1, n=3, parameters="g", progressbar=False)
    assert np.isnan(study.table["width"]).all()
    task = found_tasks(plan)[0]
    Y = task.responses()[:, :3]
    widths = []
    for y in Y.T:
        frame = pd.DataFrame({"g": np.repeat(range(6), 4), "y": y})
        widths.append(np.diff(bl.Model("y ~ 1 + (1 | g)", frame).fit().confint(parameters="sd_g[Intercept]"))[0, 0])
    assert found.table["width"].iloc[0] == pytest.approx(np.mean(widths), rel=1e-6)


def found_tasks(plan: bl.Plan) -> list[object]:
    """The tasks of a study of this plan as it is."""
    seen: list[object] = []

    def look(task: object) -> object:
        seen.append(task)
        return run_power(task)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verb, "run_power", look)
        bl.power(plan, {"Intercept": 5}, {"g": 2}, sigma=1, n=3, parameters="g", progressbar=False)
    return seen


def test_a_run_that_was_stopped_continues_to_the_same_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = dict(study=one_way(4, 4), effects={"Intercept": 0}, sds={"g": 1}, sigma=1, n=450, progressbar=False)  # noqa: C408
    whole = bl.power(groups=[5, 8], **call)
    ran: list[str] = []

    def stops(task: object) -> object:
        if len(ran) == 2:
            raise KeyboardInterrupt
        ran.append(task.name)
        return run_power(task)

    monkeypatch.setattr(verb, "run_power", stops)
    part = bl.power(groups=[5, 8], store=tmp_path / "kept", **call)
    assert part.table["n"].max() < 450
    assert "interrupted" in str(part)

    def counts(task: object) -> object:
        ran.append(task.name)
        return run_power(task)

    monkeypatch.setattr(verb, "run_power", counts)
    rest = bl.power(groups=[5, 8], store=tmp_path / "kept", **call)
    pd.testing.assert_frame_equal(rest.table, whole.table)
    assert len(ran) == len(set(ran)) == 6
    # A further combination needs its own tasks only.
    wider = bl.power(groups=[5, 8, 12], store=tmp_path / "kept", **call)
    assert len(ran) == 9
    pd.testing.assert_frame_equal(wider.table[wider.table["groups"] < 12], whole.table)
    with pytest.raises(bl.StorageError, match="another study"):
        bl.power(groups=[5, 8], store=tmp_path / "kept", **{**call, "random_seed": 2})


def test_a_pilot_gives_what_is_not_named() -> None:
    pilot = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy"))
    a = bl.power(pilot, n=60, progressbar=False)
    b = bl.power(pilot.fit(), n=60, progressbar=False)
    e = pilot.fit().estimates()
    c = bl.power(
        pilot, e[["Intercept", "Days"]], e[["sd_Subject[Intercept]", "sd_Subject[Days]"]],
        corrs=e["corr_Subject[Intercept.Days]"], sigma=e["sigma"], n=60, progressbar=False,
    )  # fmt: skip
    pd.testing.assert_frame_equal(a.table, b.table)
    pd.testing.assert_frame_equal(a.table, c.table)
    assert list(a.table["parameter"]) == ["Days", "sd_Subject[Intercept]", "sd_Subject[Days]"]


def test_text_fits_and_the_figure_has_what_the_table_has() -> None:
    found = bl.power(
        one_way(4, 4), {"Intercept": [0, 1]}, {"g": 1}, sigma=1, groups=[4, 8, 16], n=50, progressbar=False
    )
    assert max(map(len, str(found).split("\n"))) <= 80
    ax = found.plot()
    assert ax.get_xlabel() == "groups"
    drawn = {text.get_text() for text in ax.get_legend().get_texts()}
    # The share of singular fits depends on the size of the effect no more than by chance, but is one line for each.
    singular = {"singular fits\nIntercept = 0", "singular fits\nIntercept = 1"}
    looks = {(line.get_linestyle(), line.get_marker()) for line in ax.lines if line.get_label() in singular}
    assert len(looks) == 2
    assert drawn - singular == {
        "Intercept (satterthwaite)\nIntercept = 0", "Intercept (satterthwaite)\nIntercept = 1",
        "sd_g[Intercept] (exact RLRT)\nIntercept = 0", "sd_g[Intercept] (exact RLRT)\nIntercept = 1",
    }  # fmt: skip
    own = found.table[(found.table["parameter"] == "Intercept") & (found.table["Intercept"] == 1)]
    curve = next(c for c in ax.containers if c.get_label() == "Intercept (satterthwaite)\nIntercept = 1")
    assert curve.lines[0].get_ydata().tolist() == own["power"].tolist()
    assert found.plot("Intercept", x="Intercept").get_xlabel() == "Intercept"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"effects": {"arm": 1}}, "effects names 'arm'"),
        ({"effects": 3}, "no mapping"),
        ({"effects": {"arm[b]": (1, 2, 3)}}, "no pair"),
        ({"effects": {"arm[b]": (1, -2)}}, "at least 0"),
        ({"effects": {"arm[b]": []}}, "is empty"),
        ({"sds": {"t": 1}}, "sds names 't'"),
        ({"sds": {"s": -1}}, "0 or more"),
        ({"groups": [1, 2]}, "at least 2"),
        ({"groups": {"t": 3}}, "grouping factor='t'"),
        ({"groups": 5, "replicates": 2, "total": 20}, "one of the two"),
        ({"groups": 30, "total": 20}, "less than one row"),
        ({"ddf": "residual"}, "ddf="),
        ({"parameters": "x"}, "'x'"),
        ({"parameters": []}, "nothing to test"),
        ({"ddf": "kenward-roger", "reml": False}, "maximum likelihood"),
        ({"sigma": None}, "sigma is not given"),
        ({"groups": list(range(2, 5000))}, "combinations"),
    ],
)  # fmt: skip
def test_refusals(arguments: dict[str, object], says: str) -> None:
    call = {"effects": {"Intercept": 0, "arm[b]": 1}, "sds": {"s": 1}, "sigma": 1, "n": 5, "progressbar": False}
    with pytest.raises(bl.DesignError, match=says):
        bl.power(blocks(4), **{**call, **arguments})
