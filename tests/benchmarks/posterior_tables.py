"""Writes results/posterior_peers.md from results/posterior_peers.csv."""

from __future__ import annotations

import math

import pandas as pd
from posterior import ENOUGH, PACKAGES
from posterior_cases import ALL, PosteriorCase
from tables import by_cell, markdown

# R-hat from which an ESS means nothing.
CONVERGED = 1.05
INTRODUCTION = """# Time to posterior

From data frame to draws, one thread, warm process, CPU seconds (wall seconds are in posterior_peers.csv). Min ESS is
the smallest bulk or tail ESS of ArviZ over all standard deviations, correlations, sigma and fixed effects; for
importance sampling the effective size of the weights where that is smaller, since resampled draws look independent.

Peers compile their model in every call; a second call in the same process finds some of it in caches (`compile warm`),
the first one in a process with empty caches none of it (`compile cold`). The ESS per second of peers leaves compilation
out altogether, which favours them; `whole call` has warm compilation in it. bayeslmm compiles nothing.

`numpyro marginal` is written by hand for this benchmark as Lai, Domke & Sheldon (2024) propose: the block with most
effects is integrated out by the matrix inversion lemma, NUTS has the rest. `pymc nutpie` is the hierarchical model as
a user would write it, with correlations, non-centred. Both have bayeslmm's half-t priors on the standard deviations,
uniform correlations and wide normal priors on the fixed effects. So has bambi, but its `(x | g)` has no correlation:
it samples independent effects, an easier and another model, wherever effects are correlated. rstanarm has its own
priors (decov).

The eight cases from `english` on are the experiments that Lai, Domke & Sheldon compiled; their files are not shipped.
Their peers were measured on a machine shared with other work, which lengthens CPU seconds less than wall seconds, but
does lengthen them; peers on the other cases on an earlier day, but for `pymc nutpie` on sleepstudy; bayeslmm on a quiet
machine of the same kind.
"""


def good(row: pd.Series | None) -> bool:
    """Whether a row has numbers."""
    return row is not None and row["status"] == "ok"


def rate(row: pd.Series | None) -> float:
    """Min ESS per second without compilation."""
    return row["min_ess"] / row["sampling"] if good(row) and row["sampling"] > 0 else math.nan


def whole_rate(row: pd.Series | None) -> float:
    """Min ESS per second of whole calls."""
    return row["min_ess"] / row["seconds"] if good(row) else math.nan


def seconds_to_enough(row: pd.Series | None) -> float:
    """Seconds of a whole call to an ESS of 1,000: those measured, or more where the ESS fell short."""
    if not good(row):
        return math.nan
    return row["seconds"] + row["sampling"] * max(ENOUGH / row["min_ess"] - 1.0, 0.0)


def to_enough(row: pd.Series) -> str:
    """The same as text; with ``~`` extrapolated from a shorter run."""
    return ("" if row["min_ess"] >= ENOUGH else "~") + f"{seconds_to_enough(row):.3g}"


def number(value: float, digits: int = 3) -> str:
    """Digits without an exponent; empty for nan."""
    if not math.isfinite(value):
        return ""
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def peer_cell(value: float, row: pd.Series | None, case: PosteriorCase) -> str:
    """Rate and name of a peer, and what is wrong with it."""
    if row is None:
        return "none"
    faults = [f"{row['divergences']:.0f} divergences"] if row["divergences"] else []
    faults += ["not converged"] if row["max_rhat"] >= CONVERGED else []
    faults += ["no correlation"] if case.cor_labels and "bambi" in row["package"] else []
    return f"{number(value)} ({', '.join([row['package'], *faults])})"


def overview_row(cells: dict[tuple[str, str], pd.Series], case: PosteriorCase) -> list[str]:
    """bayeslmm beside the best peer."""
    ours = cells.get((case.name, "bayeslmm"))
    peers = {name: cells.get((case.name, name)) for name in PACKAGES[1:]}
    best, whole = (
        max(((f(row), name) for name, row in peers.items() if math.isfinite(f(row))), default=(math.nan, ""))
        for f in (rate, whole_rate)
    )
    own = whole_rate(ours)
    text = [ours["method"], number(ours["seconds"]), number(ours["min_ess"])] if good(ours) else ["", "", ""]
    certificate = ours["certificate"] if good(ours) else ""
    peer_cells = [peer_cell(value, peers.get(name), case) for value, name in (best, whole)]
    ratios = [number(own / value) for value, _ in (best, whole)]
    quickest = min((seconds_to_enough(row) for row in peers.values() if good(row)), default=math.nan)
    return [case.name, *text, number(own), number(case.aim), *peer_cells, number(quickest), *ratios, certificate]


def detail_row(row: pd.Series) -> list[str]:
    """Everything that was measured of one package on one case."""
    head = [row["case"], row["package"]]
    if not good(row):
        return [*head, *[""] * 12, ": ".join(filter(None, (row["status"], row["note"])))]
    count = f"{row['chains']:.0f} x {row['draws']:.0f}" + (f" + {row['tune']:.0f}" if row["tune"] else "")
    times = [number(row[name]) for name in ("seconds", "sampling", "compile_cold", "compile_warm")]
    quality = [number(row["divergences"]), f"{row['max_rhat']:.3f}", number(row["mb"])]
    notes = [] if row["max_rhat"] < CONVERGED else ["not converged"]
    ess = [number(row["min_ess"]), row["worst"], number(rate(row)), to_enough(row)]
    return [*head, count, *times, *ess, *quality, "; ".join([*notes, *filter(None, [row["note"]])])]


def means_rows(cells: dict[tuple[str, str], pd.Series], case: PosteriorCase) -> list[list[str]]:
    """Posterior means side by side; bambi has no correlations, so its values fill the other parameters."""
    columns = []
    for name in PACKAGES:
        row = cells.get((case.name, name))
        columns.append(dict(part.split("=") for part in row["means"].split("; ")) if good(row) else {})
    return [
        [case.name, label, *(number(float(means[label]), 4) if label in means else "" for means in columns)]
        for label in case.labels
        if any(columns)
    ]


def report(results: pd.DataFrame) -> str:
    """The whole file."""
    cells = by_cell(results)
    header = ["case", "method", "seconds", "min ESS", "min ESS / s", "aim", "best peer, sampling only"]
    header += [
        "best peer, whole call",
        "quickest peer, seconds to 1,000",
        "bayeslmm / sampling only",
        "bayeslmm / whole call",
        "certificate",
    ]
    overview = markdown(header, [overview_row(cells, case) for case in ALL])
    header = ["case", "package", "chains x draws + tune", "seconds", "sampling", "compile cold", "compile warm"]
    header += ["min ESS", "of", "min ESS / s", "seconds to 1,000", "divergences", "max R-hat", "MB above data", "note"]
    details = markdown(header, [detail_row(row) for _, row in results.iterrows()])
    means = markdown(["case", "parameter", *PACKAGES], [line for case in ALL for line in means_rows(cells, case)])
    versions = results[results["version"] != ""].drop_duplicates("package")["version"]
    formulas = "\n".join(f"- {case.name}: `{case.formula}`" for case in ALL)
    sections = (
        f"{INTRODUCTION}\nVersions: {', '.join(sorted(set(versions)))}.\n",
        f"## bayeslmm beside the best peer\n\n{overview}",
        f"## All measurements\n\nSeconds with `~` are extrapolated from the ESS of a shorter run.\n\n{details}",
        f"## Posterior means\n\nOne model in every column, but for bambi's where effects are correlated.\n\n{means}",
        f"## Models\n\n{formulas}\n",
    )
    return "\n".join(sections)
