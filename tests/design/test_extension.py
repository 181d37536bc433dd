"""Other numbers of groups and rows: what is copied, what is nested, and what keeps its share."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import bayeslmm as bl
from bayeslmm.design.extension import extend, in_turns


def two_arms(per_arm: tuple[int, int], days: int = 4) -> bl.Plan:
    arms = ["a"] * per_arm[0] + ["b"] * per_arm[1]
    frame = pd.DataFrame(
        [(f"s{i:02d}", arm, day) for i, arm in enumerate(arms) for day in range(days)], columns=["s", "arm", "day"]
    )
    return bl.Plan("y ~ arm * day + (day | s)", frame)


AT = {"beta": [0, 1, 1, 0], "sd": [1, 1], "sigma": 1, "random_seed": 1}


@pytest.mark.parametrize("count", [10, 13, 20, 25, 40])
def test_arms_keep_their_shares(count: int) -> None:
    study = two_arms((15, 5)).simulate(n_groups=count, **AT)
    arms = study.drop_duplicates("s")["arm"].value_counts()
    assert study["s"].nunique() == count
    assert abs(arms["b"] - count / 4) <= 1
    assert (study.groupby("s")["day"].apply(tuple) == (0, 1, 2, 3)).all()


def test_rows_of_a_cell_are_evenly_spaced_and_repeated() -> None:
    plan = two_arms((2, 2), days=10)
    days = plan.simulate(replicates=4, **AT).groupby("s")["day"].apply(list)
    assert days.tolist() == [[0, 3, 6, 9]] * 4
    twice = plan.simulate(replicates=13, **AT).groupby("s")["day"].apply(lambda d: sorted(d))
    assert twice.tolist() == [sorted([*range(10), 0, 4, 9])] * 4


def test_whole_turns_are_the_rows_themselves() -> None:
    assert in_turns(np.array([2, 0, 1]), 3).tolist() == [0, 1, 2]
    design = bl.Model("Reaction ~ Days + (Days | Subject)", bl.load_dataset("sleepstudy")).design
    same = extend(design, {"Subject": 18}, 10)
    assert same.rows.tolist() == list(range(180))


def test_nested_factors_are_copied_and_crossed_ones_stay() -> None:
    pastes = bl.Model("strength ~ 1 + (1 | batch/cask)", bl.load_dataset("Pastes"))
    study = pastes.simulate(n_groups=25, random_seed=1)
    again = bl.Model(pastes.formula, study).design
    assert again.groupings["batch"].n_levels == 25
    assert again.groupings["batch:cask"].n_levels == 75
    assert study.groupby("batch").size().eq(6).all()
    penicillin = bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin"))
    study = penicillin.simulate(n_groups={"plate": 30}, random_seed=1)
    assert study["sample"].nunique() == 6
    assert (pd.crosstab(study["plate"], study["sample"]) == 1).all(axis=None)
    both = penicillin.simulate(n_groups={"plate": 5, "sample": 9}, replicates=2, random_seed=1)
    assert pd.crosstab(both["plate"], both["sample"]).shape == (5, 9)
    assert (pd.crosstab(both["plate"], both["sample"]) == 2).all(axis=None)


def test_explicitly_nested_labels_are_new_in_every_copy() -> None:
    frame = pd.DataFrame({"school": np.repeat(["A", "B", "C"], 8), "klass": np.repeat([f"k{i}" for i in range(6)], 4)})
    plan = bl.Plan("y ~ 1 + (1 | school) + (1 | klass)", frame)
    study = plan.simulate(n_groups=7, beta=0, sd=[1, 1], sigma=1, random_seed=1)
    assert (study.groupby("klass")["school"].nunique() == 1).all()
    assert study["klass"].nunique() == 14


def test_the_table_and_the_design_are_of_the_same_rows() -> None:
    """Responses without noise follow the predictors and groups of the table."""
    plan = two_arms((3, 3))
    study = plan.simulate(n_groups=11, replicates=6, beta=[1, 2, 3, 4], sd=[0, 0], sigma=1e-12, random_seed=1)
    b = (study["arm"] == "b").to_numpy(dtype=float)
    np.testing.assert_allclose(study["y"], 1 + 2 * b + 3 * study["day"] + 4 * b * study["day"], rtol=1e-9)
    again = bl.Model(plan.formula, study).design
    assert again.groupings["s"].n_levels == 11
    assert again.n == 66


def test_a_plan_needs_all_parameters() -> None:
    plan = two_arms((3, 3))
    with pytest.raises(bl.DesignError, match=r"sigma.*are not given|sd_s.*are not given"):
        plan.simulate(beta=[1, 2, 3, 4])
    with pytest.raises(bl.DesignError, match="no response"):
        plan.simulate(beta=[1, 2, 3, 4], sd=[1, 1], sigma=1, random="all")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"n_groups": 1}, "at least 2"),
        ({"n_groups": {"x": 3}}, "grouping factor='x'"),
        ({"n_groups": 3, "random": "all"}, "makes new ones"),
        ({"replicates": 0}, "at least 1"),
        ({"replicates": 1}, "day, arm"),
    ],
)
def test_refusals(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(bl.DesignError, match=says):
        two_arms((3, 3)).simulate(**{**AT, **arguments})


def test_dropped_rows_are_no_rows_of_a_study() -> None:
    data = bl.load_dataset("sleepstudy").astype({"Reaction": float})
    data.loc[data["Subject"] == "308", "Reaction"] = np.nan
    study = bl.Model("Reaction ~ Days + (Days | Subject)", data).simulate(n_groups=17, random_seed=1)
    assert "308" not in set(study["Subject"])


def test_crossed_factors_have_to_be_named() -> None:
    model = bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin"))
    with pytest.raises(bl.DesignError, match="'plate', 'sample'"):
        model.simulate(n_groups=30)
