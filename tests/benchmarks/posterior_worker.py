"""Samples one posterior with one package in a process of its own: ``posterior_worker.py PACKAGE CASE DIRECTORY DRAWS``.

Stores the draws of all standard deviations, correlations, sigma and fixed effects in DIRECTORY/draws.npy, shape
(chains, draws, parameters), and prints one line: RESULT and fields ``key=value`` between tabs. posterior.py starts it.
Exit codes as in worker.py.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from peers import children_seconds
from posterior_cases import CASES, PosteriorCase
from worker import ABSENT, memory, read_data, reset_peak

DEGREES_OF_FREEDOM = 3
# What bayeslmm draws in all and the chains in which it lays out independent draws.
BAYESLMM_DRAWS, CHAINS = 4_000, 4
NAN = float("nan")


@dataclass(frozen=True)
class Sampled:
    """What one call gave: draws (chains, draws, parameters), divergences, wall seconds of sampling, texts."""

    draws: np.ndarray
    divergences: int
    sampling: float = NAN
    texts: tuple[tuple[str, object], ...] = ()


def stack(parts: list[Any]) -> np.ndarray:
    """Parameters of shape (chains, draws) or (chains, draws, k) side by side."""
    arrays = [np.asarray(part, dtype=float) for part in parts]
    return np.concatenate([a.reshape(*a.shape[:2], -1) for a in arrays], axis=2)


def column(data: pd.DataFrame, effect: str) -> np.ndarray:
    """Values of an effect's column."""
    return np.ones(len(data)) if effect == "1" else data[effect].to_numpy(dtype=float)


def scale(case: PosteriorCase, data: pd.DataFrame, effect: str = "1") -> float:
    """Scale of the half-t prior of an sd at the zero of the columns: ``sd(y) / rms(column)``."""
    return float(data[case.response].std() / np.sqrt(np.mean(column(data, effect) ** 2)))


class Bayeslmm:
    """bayeslmm: Model.sample without the pointwise log likelihood and with the priors of the peers.

    These are its defaults, but for slopes: there the peers have their priors at the zero of a predictor.
    """

    modules = ("bayeslmm",)
    compiles = False

    def sample(self, case: PosteriorCase, data: pd.DataFrame, draws: int, tune: int, seed: int) -> Sampled:
        import bayeslmm

        priors = {
            f"sd_{term.group}[{'Intercept' if effect == '1' else effect}]": bayeslmm.HalfT(
                DEGREES_OF_FREEDOM, scale(case, data, effect)
            )
            for term in case.terms
            if "1" in term.effects and not term.factor
            for effect in term.effects
        }
        model = bayeslmm.Model(case.formula, data)
        post = model.sample(draws, priors=priors, random_seed=seed, log_likelihood=False)
        values, names = post.data["posterior"], [term.group for term in case.terms]
        parts = [values[f"sd_{name}"] for name in names]
        parts += [values[f"corr_{name}"] for name in names if f"corr_{name}" in values]
        parts += [values["sigma"], values["beta"]]
        stats = post.data["sample_stats"] if "sample_stats" in post.data.children else {}
        divergences = int(stats["diverging"].sum()) if "diverging" in stats else 0
        d = post.diagnostics
        kish = getattr(d, "points", NAN) * getattr(d, "efficiency", NAN) if post.method == "importance" else NAN
        texts = (("method", post.method), ("certificate", post.certificate()), ("kish", kish))
        return Sampled(stack(parts), divergences, texts=texts)


@dataclass(frozen=True)
class Bambi:
    """bambi with one of its samplers; half-t priors of bayeslmm on the sds, its own on the fixed effects."""

    method: str
    modules: tuple[str, ...]
    compiles = True

    def priors(self, case: PosteriorCase, data: pd.DataFrame) -> dict[str, Any]:
        import bambi

        def half_t(effect: str) -> Any:
            return bambi.Prior("HalfStudentT", nu=DEGREES_OF_FREEDOM, sigma=scale(case, data, effect))

        priors = {"sigma": half_t("1")}
        for term in case.terms:
            for effect in (term.effects[0],) if term.factor else term.effects:
                key = f"{term.factor or effect}|{term.group}"
                priors[key] = bambi.Prior("Normal", mu=0, sigma=half_t(effect))
        return priors

    def sample(self, case: PosteriorCase, data: pd.DataFrame, draws: int, tune: int, seed: int) -> Sampled:
        import bambi

        model = bambi.Model(case.formula, data, priors=self.priors(case, data))
        tree = model.fit(
            draws=draws,
            tune=tune,
            chains=case.chains,
            cores=1,
            inference_method=self.method,
            progressbar=False,
            random_seed=seed,
        )
        values = tree["posterior"]
        parts = [
            values[f"{effect}|{term.group}_sigma"]
            for term in case.terms
            for effect in ((term.factor,) if term.factor else term.effects)
        ]
        parts += [values["sigma"], values["Intercept"]]
        parts += [values[name] for name in values.data_vars if "|" not in name and name not in ("sigma", "Intercept")]
        sampling = NAN if self.method == "numpyro" else float(values.attrs.get("sampling_time", NAN))
        return Sampled(stack(parts), int(tree["sample_stats"]["diverging"].sum()), sampling)


class HandWritten:
    """The correlated model in PyMC as a user would write it, non-centred, sampled by nutpie."""

    modules = ("pymc", "nutpie")
    compiles = True

    def model(self, case: PosteriorCase, data: pd.DataFrame) -> Any:
        import pymc as pm
        import pytensor.tensor as pt

        y = data[case.response].to_numpy(dtype=float)
        X = np.column_stack([column(data, name) for name in ("1", *case.fixed)])
        spread = np.where(X.std(0) > 0, X.std(0), 1.0)
        with pm.Model() as model:
            beta = pm.Normal("beta", np.r_[y.mean(), np.zeros(X.shape[1] - 1)], 10 * y.std() / spread)
            sigma = pm.HalfStudentT("sigma", DEGREES_OF_FREEDOM, sigma=scale(case, data))
            mu = pt.dot(X, beta)
            for term in case.terms:
                codes, levels = pd.factorize(data[term.group])
                scales = np.array([scale(case, data, effect) for effect in term.effects])
                Z = np.column_stack([column(data, effect) for effect in term.effects])
                z = pm.Normal(f"z_{term.group}", shape=(len(levels), len(scales)))
                b = (z @ self.factor(term.group, scales).T)[codes]
                mu = mu + (Z * b).sum(axis=1)
            pm.Normal("y", mu, sigma, observed=y)
        return model

    def factor(self, group: str, scales: np.ndarray) -> Any:
        """Cholesky factor of the covariance of one block."""
        import pymc as pm
        import pytensor.tensor as pt

        if len(scales) == 1:
            sd = pm.HalfStudentT(f"sd_{group}", DEGREES_OF_FREEDOM, sigma=scales[0], shape=1)
            return sd[:, None]
        if len(scales) == 2:
            # LKJ(1) of two effects is uniform, and written so it compiles in a tenth of the time.
            sd = pm.HalfStudentT(f"sd_{group}", DEGREES_OF_FREEDOM, sigma=scales, shape=2)
            rho = pm.Uniform(f"corr_{group}", -1.0, 1.0, shape=1)[0]
            return pt.stacklists([[sd[0], 0.0], [sd[1] * rho, sd[1] * pt.sqrt(1 - rho**2)]])
        # A vector of scales inside LKJCholeskyCov fails under nutpie: they multiply the factor instead.
        half_t = pm.HalfStudentT.dist(DEGREES_OF_FREEDOM, sigma=1.0, shape=len(scales))
        chol, corr, sds = pm.LKJCholeskyCov(f"chol_{group}", n=len(scales), eta=1.0, sd_dist=half_t)
        pm.Deterministic(f"sd_{group}", sds * scales)
        pm.Deterministic(f"corr_{group}", corr[np.triu_indices(len(scales), 1)])
        return scales[:, None] * chol

    def sample(self, case: PosteriorCase, data: pd.DataFrame, draws: int, tune: int, seed: int) -> Sampled:
        import nutpie

        compiled = nutpie.compile_pymc_model(self.model(case, data))
        start = time.perf_counter()
        tree = nutpie.sample(
            compiled, draws=draws, tune=tune, chains=case.chains, cores=1, seed=seed, progress_bar=False
        )
        sampling = time.perf_counter() - start
        values = tree["posterior"]
        parts = [values[f"sd_{term.group}"] for term in case.terms]
        parts += [values[f"corr_{term.group}"] for term in case.terms if term.pairs]
        parts += [values["sigma"], values["beta"]]
        return Sampled(stack(parts), int(tree["sample_stats"]["diverging"].sum()), sampling)


class Marginal:
    """The model in NumPyro, one block of effects integrated out as by Lai, Domke & Sheldon (2024); NUTS for the rest.

    It is the block with most effects. Given all others, rows of different levels are independent, and the matrix
    inversion lemma leaves a small matrix for each level: a gradient costs as many operations as there are rows.
    """

    modules = ("numpyro",)
    compiles = True

    def arrays(self, case: PosteriorCase, data: pd.DataFrame) -> dict[str, Any]:
        """The arguments of the model."""
        rows = {term.group: pd.factorize(data[term.group])[0] for term in case.terms}
        effects = {t.group: np.column_stack([column(data, effect) for effect in t.effects]) for t in case.terms}
        gone = max(rows, key=lambda name: (rows[name].max() + 1) * effects[name].shape[1])
        Z = effects[gone]
        squares = np.zeros((rows[gone].max() + 1, Z.shape[1], Z.shape[1]))
        np.add.at(squares, rows[gone], Z[:, :, None] * Z[:, None, :])
        X = np.column_stack([column(data, name) for name in ("1", *case.fixed)])
        y = data[case.response].to_numpy(dtype=float)
        return {"y": y, "X": X, "rows": rows, "effects": effects, "squares": squares}

    def model(self, case: PosteriorCase, data: pd.DataFrame) -> Callable[..., None]:
        """Log density, less what is constant."""
        import jax
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as dist

        response, spread = data[case.response], [np.std(column(data, name)) or 1.0 for name in ("1", *case.fixed)]
        wide = 10 * np.std(response) / np.array(spread)
        centre = np.r_[np.mean(response), np.zeros(len(case.fixed))]
        scales = {t.group: np.array([scale(case, data, effect) for effect in t.effects]) for t in case.terms}
        counts = {t.group: data[t.group].nunique() for t in case.terms}
        gone = max(counts, key=lambda name: counts[name] * len(scales[name]))

        def half_t(name: str, scales: np.ndarray) -> Any:
            return numpyro.sample(name, dist.FoldedDistribution(dist.StudentT(DEGREES_OF_FREEDOM, 0.0, scales)))

        def factor(name: str) -> Any:
            size = len(scales[name])
            with numpyro.plate(f"{name} effects", size):
                sd = half_t(f"sd_{name}", scales[name])
            if size == 1:
                return sd[:, None]
            chol = numpyro.sample(f"chol_{name}", dist.LKJCholesky(size, 1.0))
            numpyro.deterministic(f"corr_{name}", (chol @ chol.T)[np.triu_indices(size, 1)])
            return sd[:, None] * chol

        def joint(y: Any, X: Any, rows: dict[str, Any], effects: dict[str, Any], squares: Any) -> None:
            beta = numpyro.sample("beta", dist.Normal(centre, wide).to_event(1))
            sigma = half_t("sigma", np.array(scale(case, data)))
            factors = {name: factor(name) for name in scales}
            rest = y - X @ beta
            for name in (name for name in scales if name != gone):
                z = numpyro.sample(f"z_{name}", dist.Normal().expand([counts[name], len(scales[name])]).to_event(2))
                rest = rest - (effects[name] * (z @ factors[name].T)[rows[name]]).sum(1)
            L = factors[gone] / sigma
            inner = jnp.linalg.cholesky(jnp.eye(len(L)) + L.T @ squares @ L)
            sums = jax.ops.segment_sum(effects[gone] * (rest / sigma)[:, None], rows[gone], counts[gone]) @ L
            explained = jax.scipy.linalg.solve_triangular(inner, sums[:, :, None], lower=True)
            logs = jnp.log(jnp.diagonal(inner, axis1=1, axis2=2)).sum() + len(y) * jnp.log(sigma)
            numpyro.factor("y", -0.5 * ((rest**2).sum() / sigma**2 - (explained**2).sum()) - logs)

        return joint

    def sample(self, case: PosteriorCase, data: pd.DataFrame, draws: int, tune: int, seed: int) -> Sampled:
        import jax
        import numpyro

        numpyro.enable_x64()
        chains = numpyro.infer.MCMC(
            numpyro.infer.NUTS(self.model(case, data)),
            num_warmup=tune,
            num_samples=draws,
            num_chains=case.chains,
            # One after another they would be compiled anew for each.
            chain_method="vectorized",
            progress_bar=False,
        )
        chains.run(jax.random.PRNGKey(seed), **self.arrays(case, data))
        values = chains.get_samples(group_by_chain=True)
        parts = [values[f"sd_{term.group}"] for term in case.terms]
        parts += [values[f"corr_{term.group}"] for term in case.terms if term.pairs]
        parts += [values["sigma"], values["beta"]]
        return Sampled(stack(parts), int(chains.get_extra_fields(group_by_chain=True)["diverging"].sum()))


PACKAGES: dict[str, Any] = {
    "bayeslmm": Bayeslmm(),
    "numpyro marginal": Marginal(),
    "bambi pymc": Bambi("pymc", ("bambi",)),
    "bambi nutpie": Bambi("nutpie", ("bambi", "nutpie")),
    "bambi numpyro": Bambi("numpyro", ("bambi", "numpyro")),
    "pymc nutpie": HandWritten(),
}


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, CPU seconds (of compilers that it starts too), wall seconds."""
    wall, cpu = time.perf_counter(), time.process_time() + children_seconds()
    result = call()
    return result, time.process_time() + children_seconds() - cpu, time.perf_counter() - wall


def measure(call: Callable[[int], Sampled], quick: bool) -> tuple[Sampled, dict[str, object]]:
    """The first timed result and median seconds; single runs for peers and where a call takes over 5 s."""
    before = memory("VmRSS")
    reset_peak()
    sampled, *first = timed(lambda: call(1))
    peak, times = memory("VmHWM"), [first]
    if not quick and first[0] <= 5:
        times = [list(timed(lambda seed=seed: call(seed))[1:]) for seed in range(2, 9 if first[0] < 1 else 5)]
    cpu, wall = np.median(times, axis=0)
    return sampled, {"seconds": cpu, "wall": wall, "runs": len(times), "mb": peak - before, "peak_mb": peak}


def compilation(package: Any, case: PosteriorCase, data: pd.DataFrame) -> dict[str, object]:
    """CPU seconds of calls for a few draws: the first in a process with empty caches, and the next one."""
    cold, warm = (timed(lambda: package.sample(case, data, 5, 5, 1))[1] for _ in range(2))
    return {"compile_cold": cold, "compile_warm": warm}


def only_one_thread(directory: Path, pinned: bool) -> None:
    """Compile caches of this case's own; JAX, which starts threads whatever it is told, is kept on one processor."""
    os.environ["PYTENSOR_FLAGS"] = f"base_compiledir={directory / 'pytensor'}"
    os.environ["NUMBA_CACHE_DIR"] = str(directory / "numba")
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    if pinned:
        with contextlib.suppress(AttributeError, OSError):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def main(name: str, case: PosteriorCase, directory: Path, draws: int) -> int:
    """Measure, store the draws and print the line of results."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    package = PACKAGES[name]
    only_one_thread(directory, pinned="numpyro" in package.modules)
    try:
        for module in package.modules:
            __import__(module)
    except ImportError:
        return ABSENT
    data = read_data(directory)
    fields: dict[str, object] = {"chains": case.chains, "draws": draws, "tune": case.tune}
    if package.compiles:
        fields |= compilation(package, case, data)
        sampled, numbers = measure(lambda seed: package.sample(case, data, draws, case.tune, seed), quick=True)
    else:
        fields |= {"chains": CHAINS, "draws": BAYESLMM_DRAWS // CHAINS, "tune": 0}
        package.sample(case, data, BAYESLMM_DRAWS, 0, 0)
        sampled, numbers = measure(lambda seed: package.sample(case, data, BAYESLMM_DRAWS, 0, seed), quick=False)
    fields |= numbers | dict(sampled.texts) | {"divergences": sampled.divergences}
    fields["sampling"] = sampling_seconds(fields, sampled.sampling)
    fields["version"] = " ".join(f"{module} {version(module)}" for module in package.modules)
    np.save(directory / "draws.npy", sampled.draws)
    print("RESULT", *(f"{key}={value}" for key, value in fields.items()), sep="\t")
    return 0


def sampling_seconds(fields: dict[str, Any], wall: float) -> float:
    """CPU seconds less compilation: the sampler's own clock where it has one, otherwise by difference."""
    if np.isfinite(wall):
        return float(wall * min(1.0, fields["seconds"] / fields["wall"]))
    return max(fields["seconds"] - fields.get("compile_warm", 0.0), 0.0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], CASES[sys.argv[2]], Path(sys.argv[3]), int(sys.argv[4])))
