"""Writes results/peers.md from results/peers.csv."""

from __future__ import annotations

import math

import pandas as pd
from cases import ALL
from peers import PACKAGES, PEERS

INTRODUCTION = """# Speed against lme4 and Python peers

Whole calls from data frame to REML result, defaults of each package, one thread, warm, medians (one run over 5 s).
Seconds are CPU seconds. bayeslmm, glmm and the first five cases of lme_python and polars-ds were measured in one run on
a quiet machine; the others on one shared with other work, which disturbs CPU seconds least (wall seconds: peers.csv).
`off`: the result differs from the reference (second table). A dash: the package has no such model. gpboost maximises
the likelihood, not REML, and counts among the peers all the same. Refits: 1,000 new responses for the sleepstudy
design, by the package's own way where it has one, otherwise by whole calls; their sigma is the mean of the refits.
Fresh process: start, import, reading a CSV file and first fit. Kept from an earlier day: interlace-lme and statsmodels
on InstEval, intercepts 1e6, block 6x6, crossed 2e5, big 1e6 and refits, statsmodels on nested 2e5, lme_python on the
first five of these, lme4 on crossed 2e5.
"""
# Times that differ by less are those of the machine.
TIE = 1.02


def by_cell(results: pd.DataFrame) -> dict[tuple[str, str], pd.Series]:
    """Rows by (case, package)."""
    return {(row["case"], row["package"]): row for _, row in results.iterrows()}


def reference(cells: dict[tuple[str, str], pd.Series], case: str) -> pd.Series | None:
    """The better of bayeslmm and lme4 by criterion; the first of them where there is none."""
    rows = [cells[case, name] for name in ("bayeslmm", "lme4") if (case, name) in cells]
    rows = [row for row in rows if row["status"] == "ok" and math.isfinite(row["sigma"])]
    return min(rows, key=lambda row: row["criterion"] if math.isfinite(row["criterion"]) else 0.0, default=None)


def verdict(row: pd.Series, best: pd.Series | None) -> str:
    """What is wrong with a result; empty where it agrees with the reference.

    The tolerances are wide: 0.01 of the criterion, 1 % of sigma and 1 % of the first standard deviation (15 % for
    gpboost, since maximum likelihood shrinks it where groups are few).
    """
    if best is None or row["status"] != "ok":
        return ""
    gap = row["criterion"] - best["criterion"]
    if math.isfinite(gap) and abs(gap) > 0.01:
        return f"off: criterion {gap:+.3g}"
    for name, tolerance in (("sigma", 0.01), ("sd", 0.15 if row["package"] == "gpboost" else 0.01)):
        if math.isfinite(row[name]) and abs(row[name] / best[name] - 1) > tolerance:
            return f"off: {name} {row[name]:.4g}, not {best[name]:.4g}"
    return ""


def time_cell(row: pd.Series | None, best: pd.Series | None) -> str:
    """Seconds, or why there are none."""
    if row is None:
        return ""
    if row["status"] != "ok":
        return "-" if row["status"] == "no such model" else row["status"]
    return f"{row['seconds']:.3g}" + (" (off)" if verdict(row, best) else "")


def right_seconds(cells: dict[tuple[str, str], pd.Series], case: str) -> dict[str, float]:
    """Seconds of the packages whose results agree with the reference."""
    best, rows = reference(cells, case), {name: cells.get((case, name)) for name in PACKAGES}
    return {
        name: row["seconds"]
        for name, row in rows.items()
        if row is not None and row["status"] == "ok" and not verdict(row, best)
    }


def not_ours(cells: dict[tuple[str, str], pd.Series], cases: list[str]) -> str:
    """Where another package is faster, in words."""
    lost = []
    for case in cases:
        right = right_seconds(cells, case)
        fastest = min(right, key=right.__getitem__, default="bayeslmm")
        if "bayeslmm" in right and right["bayeslmm"] > TIE * right[fastest]:
            lost.append(f"{case} ({fastest}, {right['bayeslmm'] / right[fastest]:.3g} times as fast)")
    return f"Another package is faster in: {'; '.join(lost)}." if lost else "No other package is faster in any case."


def time_row(cells: dict[tuple[str, str], pd.Series], case: str) -> list[str]:
    """One row of the table of times."""
    best, ours = reference(cells, case), cells.get((case, "bayeslmm"))
    rows, right = {name: cells.get((case, name)) for name in PACKAGES}, right_seconds(cells, case)
    seconds = right.get("bayeslmm", math.nan)
    fastest = min((right[name] for name in PEERS if name in right), default=math.nan)
    ratios = [
        f"{value / seconds:.3g}" if math.isfinite(value / seconds) else ""
        for value in (right.get("lme4", math.nan), fastest)
    ]
    megabytes = f"{ours['mb']:.0f}" if ours is not None and math.isfinite(ours["mb"]) else ""
    times = {name: time_cell(row, best) for name, row in rows.items()}
    return [case, times["bayeslmm"], times["lme4"], ratios[0], *(times[name] for name in PEERS), ratios[1], megabytes]


def estimate_cell(row: pd.Series | None, best: pd.Series | None) -> str:
    """Sigma and criterion, what is wrong with them, or the reason of a failure."""
    if row is None or row["status"] == "absent":
        return ""
    if row["status"] != "ok":
        return f"{row['status']}: {row['note']}" if row["note"] else row["status"]
    parts = [f"{row['sigma']:.6g}"] if math.isfinite(row["sigma"]) else []
    parts += [f"{row['criterion']:.9g}"] if math.isfinite(row["criterion"]) else []
    return "; ".join([" / ".join(parts), *filter(None, (verdict(row, best), row["note"]))])


def memory_cell(row: pd.Series | None) -> str:
    """MB above the data and, in brackets, of the whole process."""
    if row is None or row["status"] != "ok" or not math.isfinite(row["mb"]):
        return ""
    return f"{row['mb']:.0f} ({row['peak_mb']:.0f})"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines) + "\n"


def report(results: pd.DataFrame) -> str:
    """The whole file."""
    cells = by_cell(results)
    names = [case.name for case in ALL]
    header = ["case", "bayeslmm s", "lme4 s", "lme4 / bayeslmm", *(f"{name} s" for name in PEERS)]
    header += ["best peer / bayeslmm", "bayeslmm MB"]
    times = markdown(header, [time_row(cells, name) for name in names])
    estimates, megabytes = [], []
    for name in names:
        best = reference(cells, name)
        rows = [cells.get((name, package)) for package in PACKAGES]
        if name == "fresh process":
            continue
        estimates.append([name, *(estimate_cell(row, best) for row in rows)])
        megabytes.append([name, *(memory_cell(row) for row in rows)])
    versions = results[results["version"] != ""].drop_duplicates("package")
    text = ", ".join(f"{row.package} {row.version}" for row in versions.itertuples())
    formulas = "\n".join(f"- {case.name}: `{case.formula}`" for case in ALL)
    return (
        f"{INTRODUCTION}\nVersions: {text}.\n\n## Seconds\n\n{not_ours(cells, names)}\n\n{times}\n"
        f"## Estimates: sigma / REML criterion\n\n{markdown(['case', *PACKAGES], estimates)}\n"
        f"## MB above the data (peak of the whole process)\n\n{markdown(['case', *PACKAGES], megabytes)}\n"
        f"## Models\n\n{formulas}\n"
    )
