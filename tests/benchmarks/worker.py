"""Times one package on one case in a process of its own: ``worker.py PACKAGE CASE DIRECTORY``.

Prints one line, separated by tabs: RESULT, CPU seconds, wall seconds, runs, MB above the data, peak MB, sigma, sd,
criterion, version. peers.py starts it, with one thread for every library. Exit code 3: the package cannot be imported;
4: it has no such model.
"""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from cases import CASES, Case

ABSENT, NO_MODEL = 3, 4
NAN = float("nan")


class NoModelError(Exception):
    """The package does not fit this model."""


def random_part(case: Case) -> str:
    """Inner side of the only random term."""
    return f"1 + {case.slopes}" if case.slopes else "1"


class Bayeslmm:
    """bayeslmm: Model.fit, REML."""

    distribution, module = "bayeslmm", "bayeslmm"

    def fit(self, case: Case, data: pd.DataFrame) -> Any:
        import bayeslmm

        return bayeslmm.Model(case.formula, data).fit()

    def read(self, fit: Any, case: Case) -> tuple[float, float, float]:
        table = fit.varcorr() if callable(fit.varcorr) else fit.varcorr
        inner = {"sample": "batch:cask", "dept_service": "dept:service"}.get(case.groups[0])
        rows = table[table["group"].isin([case.groups[0], inner])]
        return fit.sigma, float(rows["sdcor"].iloc[0]), fit.criterion

    def refit(self, case: Case, data: pd.DataFrame, y: np.ndarray) -> Callable[[], Any]:
        fit = self.fit(case, data)
        if not hasattr(fit, "refit_many"):
            raise NoModelError("no refit_many yet")
        return lambda: fit.refit_many(y).optima.sigma


class Glmm:
    """glmm: fit, with Satterthwaite's degrees of freedom, which are its default."""

    distribution, module = "glmm", "glmm"

    def fit(self, case: Case, data: pd.DataFrame) -> Any:
        import glmm

        return glmm.fit(data, case.formula)

    def read(self, fit: Any, case: Case) -> tuple[float, float, float]:
        inner = {"sample": ("batch:cask", "cask:batch"), "dept_service": ("dept:service",)}.get(case.groups[0], ())
        names = [name for name, _ in fit.re_groups]
        place = next(i for i, name in enumerate(names) if name == case.groups[0] or name in inner)
        return fit.dispersion**0.5, float(fit.stddev_corr(place)[0][0]), -2 * fit.loglik

    refit = None


class PolarsDs:
    """polars-ds: MixedModel, random intercepts of one factor and numbers as fixed effects."""

    distribution, module = "polars-ds", "polars_ds"

    def table(self, data: pd.DataFrame) -> Any:
        import polars

        return polars.from_pandas(data)

    def fit(self, case: Case, data: Any) -> Any:
        from polars_ds.linear_models import MixedModel

        if len(case.groups) > 1 or case.slopes:
            raise NoModelError("random intercepts of one grouping factor only")
        features = [] if case.fixed == "1" else [name.strip() for name in case.fixed.split("+")]
        return MixedModel().fit_df(data, features=features, target=case.response, group=case.groups[0])

    def read(self, fit: Any, case: Case) -> tuple[float, float, float]:
        sigma = float(fit.resid_variance_) ** 0.5
        return sigma, sigma * float(fit.gamma_) ** 0.5, NAN

    refit = None


class Mixedlm:
    """mixedlm: lmer."""

    distribution, module = "mixedlm", "mixedlm"

    def fit(self, case: Case, data: pd.DataFrame) -> Any:
        import mixedlm

        return mixedlm.lmer(case.formula, data)

    def read(self, fit: Any, case: Case) -> tuple[float, float, float]:
        table = fit.VarCorr().as_dict()
        key = next((k for k in table if set(k.replace("/", ":").split(":")) == {"batch", "cask"}), case.groups[0])
        variance = next(iter(table.get(key, {"": NAN}).values()))
        return fit.sigma, float(variance) ** 0.5, fit.REMLcrit()

    def refit(self, case: Case, data: pd.DataFrame, y: np.ndarray) -> Callable[[], Any]:
        fit = self.fit(case, data)
        return lambda: [fit.refit(column).sigma for column in y.T]


class LmePython:
    """lme_python: lmer."""

    distribution, module = "lme_python", "lme_python"

    def fit(self, case: Case, data: pd.DataFrame) -> Any:
        import lme_python

        return lme_python.lmer(case.formula, data)

    def read(self, fit: Any, case: Case) -> tuple[float, float, float]:
        group = {"sample": ("cask:batch", "batch:cask")}.get(case.groups[0], ()) if case.plain else ()
        sds = [row[4] for row in fit.var_corr if row[0] in (case.groups[0], *group)]
        return fit.sigma2**0.5, sds[0] if sds else NAN, fit.reml_criterion

    def refit(self, case: Case, data: pd.DataFrame, y: np.ndarray) -> Callable[[], Any]:
        import lme_python

        prepared = lme_python.prepare_lmer(case.formula, data)
        return lambda: [prepared.fit(y=column.tolist()).sigma2 ** 0.5 for column in y.T]


class Interlace:
    """interlace-lme: fit."""

    distribution, module = "interlace-lme", "interlace"

    def fit(self, case: Case, data: pd.DataFrame) -> Any:
        import interlace

        random = [f"({random_part(case)} | {group})" for group in case.groups]
        return interlace.fit(f"{case.response} ~ {case.fixed}", data, random=random)

    def read(self, fit: Any, case: Case) -> tuple[float, float, float]:
        variance = np.asarray(fit.variance_components[case.groups[0]]).ravel()[0]
        return fit.scale**0.5, float(variance) ** 0.5, -2 * fit.llf

    refit = None


class MixedlmRs:
    """mixedlm-rs: mixedlm, one grouping factor."""

    distribution, module = "mixedlm-rs", "mixedlm_rs"

    def model(self, case: Case, data: pd.DataFrame) -> Any:
        import mixedlm_rs

        if len(case.groups) > 1:
            raise NoModelError("one grouping factor only")
        formula = f"{case.response} ~ {case.fixed}"
        return mixedlm_rs.mixedlm(formula, data, groups=case.groups[0], re_formula=f"~{random_part(case)}")

    def fit(self, case: Case, data: pd.DataFrame) -> Any:
        return self.model(case, data).fit()

    def read(self, fit: Any, case: Case) -> tuple[float, float, float]:
        return fit.scale**0.5, float(np.asarray(fit.cov_re)[0, 0]) ** 0.5, -2 * fit.llf

    def refit(self, case: Case, data: pd.DataFrame, y: np.ndarray) -> Callable[[], Any]:
        model = self.model(case, data)
        return lambda: [model.with_endog(column).fit().scale ** 0.5 for column in y.T]


class Statsmodels:
    """statsmodels: MixedLM; further factors as variance components within the groups of the outermost one."""

    distribution, module = "statsmodels", "statsmodels"

    def fit(self, case: Case, data: pd.DataFrame) -> Any:
        from statsmodels.regression.mixed_linear_model import MixedLM

        formula = f"{case.response} ~ {case.fixed}"
        if len(case.groups) == 1:
            return MixedLM.from_formula(formula, data, groups=case.groups[0], re_formula=f"~{random_part(case)}").fit()
        inner = case.groups[:-1] if case.nested else case.groups
        outer = data[case.groups[-1]] if case.nested else np.zeros(len(data))
        components = {group: f"0 + C({group})" for group in inner}
        re_formula = "1" if case.nested else None
        return MixedLM.from_formula(formula, data, groups=outer, re_formula=re_formula, vc_formula=components).fit()

    def read(self, fit: Any, case: Case) -> tuple[float, float, float]:
        variance = np.asarray(fit.cov_re)[0, 0] if len(case.groups) == 1 else fit.vcomp[self.position(fit, case)]
        return fit.scale**0.5, float(variance) ** 0.5, -2 * fit.llf

    def position(self, fit: Any, case: Case) -> int:
        """Place of the first group among the variance components."""
        return list(fit.model.exog_vc.names).index(case.groups[0])

    refit = None


class Gpboost:
    """gpboost: GPModel; maximum likelihood, independent random effects."""

    distribution, module = "gpboost", "gpboost"

    def fit(self, case: Case, data: pd.DataFrame) -> Any:
        import gpboost

        if case.slopes:
            raise NoModelError("no correlated slopes")
        names = [] if case.fixed == "1" else [name.strip() for name in case.fixed.split("+")]
        columns = [data[name].to_numpy().astype(float) for name in names]
        x = np.column_stack([np.ones(len(data)), *columns])
        model = gpboost.GPModel(group_data=data[list(case.groups)], likelihood="gaussian", num_parallel_threads=1)
        return model.fit(y=data[case.response].to_numpy(dtype=float), X=x)

    def read(self, fit: Any, case: Case) -> tuple[float, float, float]:
        variances = np.asarray(fit.get_cov_pars(format_pandas=False), dtype=float).ravel()
        return float(variances[0]) ** 0.5, float(variances[1]) ** 0.5, NAN

    refit = None


PACKAGES: dict[str, Any] = {
    "bayeslmm": Bayeslmm(),
    "glmm": Glmm(),
    "polars-ds": PolarsDs(),
    "mixedlm": Mixedlm(),
    "lme_python": LmePython(),
    "interlace-lme": Interlace(),
    "mixedlm-rs": MixedlmRs(),
    "statsmodels": Statsmodels(),
    "gpboost": Gpboost(),
}


def read_data(directory: Path) -> pd.DataFrame:
    """The data frame that peers.py stored, column by column."""
    columns: dict[str, Any] = {}
    for line in (directory / "columns.tsv").read_text(encoding="utf-8").splitlines():
        name, kind = line.split("\t")
        if kind == "float":
            columns[name] = np.fromfile(directory / f"{name}.bin", dtype=np.float64)
            continue
        values = np.fromfile(directory / f"{name}.bin", dtype=np.int32).astype(np.int64)
        if kind == "factor":
            levels = (directory / f"{name}.levels").read_text(encoding="utf-8").splitlines()
            columns[name] = pd.Categorical.from_codes(values - 1, levels)
        else:
            columns[name] = values
    return pd.DataFrame(columns)


def memory(field: str) -> float:
    """VmRSS or VmHWM in MB; nan where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return NAN
    return next((float(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:")), NAN)


def reset_peak() -> None:
    """Make VmHWM start again from the present size."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, CPU seconds, wall seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    # Some kernels count processor time by ticks, longer than a small fit; one thread takes no more than the wall.
    return result, cpu or wall, wall


def measure(call: Callable[[], Any], quick: bool) -> tuple[Any, float, float, int, float, float]:
    """Result, median CPU and wall seconds, runs, MB above the data, peak MB; one run where a call takes over 5 s."""
    before = memory("VmRSS")
    reset_peak()
    result, *first = timed(call)
    times = [first]
    peak = memory("VmHWM")
    if first[0] <= 5 and not quick:
        runs = 40 if first[0] < 0.1 else 7 if first[0] < 1 else 3
        times = [list(timed(call)[1:]) for _ in range(runs)]
    cpu, wall = np.median(times, axis=0)
    return result, float(cpu), float(wall), len(times), peak - before, peak


def warm_up(package: Any) -> None:
    """A small fit, so that what a package loads on first use counts neither as time nor as memory."""
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(30), 5)
    data = pd.DataFrame({"x": rng.normal(size=150), "g": g})
    data["y"] = data["x"] + rng.normal(size=30)[g] + rng.normal(size=150)
    package.fit(CASES["intercepts 1e4"], own_table(package, data))


def own_table(package: Any, data: pd.DataFrame) -> Any:
    """The data frame, or the table of the library that the package works on."""
    return package.table(data) if hasattr(package, "table") else data


def main(name: str, case: Case, directory: Path) -> int:
    """Measure and print the line of results."""
    warnings.simplefilter("ignore")
    package = PACKAGES[name]
    try:
        __import__(package.module)
    except ImportError:
        return ABSENT
    data = read_data(directory)
    warm_up(package)
    sigma = sd = criterion = NAN
    try:
        if case.name == "refits":
            y = np.fromfile(directory / "Y.f64", dtype=np.float64).reshape(-1, len(data)).T
            results, *numbers = measure(refits(package, case, data, y), quick=True)
            sigma = float(np.mean(results))
        else:
            table = own_table(package, data)
            fit, *numbers = measure(lambda: package.fit(case, table), quick=False)
            sigma, sd, criterion = package.read(fit, case)
    except NoModelError as error:
        print(f"NOTE\t{error}")
        return NO_MODEL
    print("RESULT", *numbers, sigma, sd, criterion, version(package.distribution), sep="\t")
    return 0


def refits(package: Any, case: Case, data: pd.DataFrame, y: np.ndarray) -> Callable[[], Any]:
    """A call that refits each column of y: the package's own way, or whole calls where it has none."""
    if package.refit is not None:
        return package.refit(case, data, y)  # type: ignore[no-any-return]

    def whole_calls() -> list[float]:
        return [package.read(package.fit(case, data.assign(**{case.response: column})), case)[0] for column in y.T]

    return whole_calls


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], CASES[sys.argv[2]], Path(sys.argv[3])))
