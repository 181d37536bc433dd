"""Forms of random effects in PyMC's model by term, by data, and as `sample` hands them on."""

from __future__ import annotations

from typing import Any

import pytest

import bayeslmm as bl
from bayeslmm.bayes.forms import resolve_forms
from bayeslmm.errors import FitError, PriorError


def penicillin() -> bl.Model:
    return bl.Model("diameter ~ 1 + (1 | plate) + (1 | sample)", bl.load_dataset("Penicillin"))


def test_terms_name_their_groups_and_auto_is_one_of_the_words() -> None:
    model = penicillin()

    def read(form: Any) -> dict[str, str]:
        return dict(resolve_forms(model.design, form, lambda: model.fit().optimum.terms))

    assert read({"(1|plate)": "centered", "sample": "noncentered"}) == {"plate": "centered", "sample": "noncentered"}
    # 14.2 and 296.1 are the information ratios; six samples are too few to centre.
    assert read({"plate": "auto", "(1 | sample)": "auto"}) == {"plate": "centered", "sample": "noncentered"}
    assert read({"plate": "noncentered", "sample": "auto"})["plate"] == "noncentered"
    with pytest.raises(PriorError, match="'plate', 'sample'"):
        read({"(1 | plate)": "centered"})
    frame = bl.load_dataset("sleepstudy")
    double = bl.Model("Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)", frame)
    with pytest.raises(PriorError, match=r"\(1 \| Subject\), \(0 \+ Days \| Subject\).*one variable"):
        resolve_forms(double.design, {"(1 | Subject)": "centered", "(0 + Days | Subject)": "noncentered"}, lambda: [])


def test_sample_hands_the_form_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pymc")
    from bayeslmm.bayes import nuts

    free = list[set[str]]()

    def stop(model: Any, *args: Any, **kwargs: Any) -> None:
        free.append({rv.name for rv in model.free_RVs})
        raise InterruptedError

    monkeypatch.setattr(nuts, "sample_nuts", stop)
    for form in (None, {"plate": "centered", "sample": "noncentered"}, "auto"):
        with pytest.raises(InterruptedError):
            penicillin().sample(100, method="nuts", form=form)
    assert {"z_plate", "z_sample"} < free[0]
    assert {"b_plate", "z_sample"} < free[1] and free[1] == free[2]
    with pytest.raises(FitError, match="method='nuts'"):
        penicillin().sample(100, form="centered")
    with pytest.raises(PriorError, match="centred"):
        penicillin().sample(100, method="nuts", form="centred")
    with pytest.raises(FitError, match="form"):
        penicillin().sample(100, parametrisation="centered")  # type: ignore[call-arg]
