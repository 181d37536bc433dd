"""Residual structures and known variances in the words of nlme, glmmTMB, mmrm, SAS and metafor, and what to write."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bayeslmm.design.residual_words import MMRM
from bayeslmm.errors import DesignError

_NAME = r"[A-Za-z_.][\w.]*"
# nlme's classes: what they are here, and whether times or visits go with them.
NLME_CORRELATIONS = {
    "corAR1": "ar1",
    "corCAR1": "car1",
    "corCompSymm": "cs",
    "corSymm": "us",
    "corARMA": "arma",
    "corExp": "exp",
    "corGaus": "gaussian",
}
NLME_VARIANCES = {"varIdent": "by", "varPower": "power", "varExp": "exp", "varConstPower": "const_power"}
# Of glmmTMB: variances differ by visit but for those with hom in their names, and for ar1 and ou.
_GLMMTMB = {
    "ar1": "ar1",
    "hetar1": "ar1h",
    "ou": "car1",
    "us": "us",
    "cs": "csh",
    "homcs": "cs",
    "toep": "toeph",
    "homtoep": "toep",
    "exp": "exp",
    "gau": "gaussian",
    "mat": "matern",
    "diag": "by",
}
_MMRM = {name: name for name in MMRM} | {"sp_exp": "exp"}
# SAS's TYPE=, without brackets and their contents.
_SAS = {
    "UN": "us",
    "UNR": "us",
    "CS": "cs",
    "CSH": "csh",
    "AR(1)": "ar1",
    "ARH(1)": "ar1h",
    "TOEP": "toep",
    "TOEPH": "toeph",
    "ANTE(1)": "adh",
    "ARMA(1,1)": "arma",
    "SP(POW)": "car1",
    "SP(EXP)": "exp",
    "SP(GAU)": "gaussian",
    "VC": "by",
}
# Functions whose first arguments are a formula and data.
_PACKAGES = {"gls": "nlme", "lme": "nlme", "lmer": "lme4", "blmer": "blme", "stan_lmer": "rstanarm", "brm": "brms"}
# metafor's struct= of ~ inner | outer.
METAFOR_STRUCTS = {"CS": "cs", "HCS": "csh", "UN": "us", "AR": "ar1", "HAR": "ar1h", "ID": "id", "DIAG": "diag"}


@dataclass(frozen=True)
class Translated:
    """What a text of another package is here.

    Attributes
    ----------
    package : str
    line : str
        To be written as it stands, e.g. ``residual='ar1(time | g)'``.
    note : str
        What differs; empty if nothing does.
    """

    package: str
    line: str
    note: str = ""

    @property
    def whole_model(self) -> bool:
        """Whether the text was the call that makes the model, not a part of it."""
        return self.line.startswith("bl.Model(")

    @property
    def words(self) -> str:
        """A sentence for an error or a finding."""
        return f"What {self.package} writes so is {self.line} here." + (f" {self.note}" if self.note else "")


def translated(text: str) -> Translated | None:
    """Find a residual structure or known variances of another package in a text.

    Examples
    --------
    >>> translated("corAR1(form = ~ time | id)").line
    "residual='ar1(time | id)'"
    >>> translated("repeated visit / subject=id type=arh(1) group=arm").line
    "residual='ar1h(visit | id, by=arm)'"
    >>> translated("rma(yi, sei = se, mods = ~ x, data = d)").line
    "bl.Model('yi ~ x + (1 | study)', d, residual_sd='se')"
    """
    others: tuple[Callable[[str], Translated | None], ...] = (_nlme, _dispersion, _glmmtmb, _mmrm, _sas)
    readers = (_metafor, _whole_call, *others)
    return next((found for read in readers if (found := read(text)) is not None), None)


def _residual(package: str, structure: str, note: str = "") -> Translated:
    return Translated(package, f"residual='{structure}'", note)


def _calls(text: str, names: dict[str, str]) -> list[tuple[str, str]]:
    """Calls of some functions: name and what stands between the brackets."""
    found = []
    for match in re.finditer(rf"(?<![\w.])({'|'.join(map(re.escape, names))})\s*\(", text):
        depth, end = 1, match.end()
        while end < len(text) and depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        found.append((match[1], text[match.end() : end - 1 if not depth else end]))
    return found


def _formula(arguments: str) -> tuple[str, str]:
    """Both sides of the bar of ``form = ~ x | g``, or of what stands first; empty where there are none."""
    match = re.search(r"~([^,~]*)", arguments)
    text = match[1] if match else ""
    left, _, group = text.partition("|")
    return left.strip(), group.strip()


def _nlme(text: str) -> Translated | None:
    correlations, variances = _calls(text, NLME_CORRELATIONS), _calls(text, NLME_VARIANCES)
    if not correlations and not variances:
        return None
    found, notes = list[str](), list[str]()
    left, group = "", ""
    for name, arguments in correlations[:1]:
        left, group = _formula(arguments)
        group = group or "g"
        by_order = left in ("1", "")
        left = "time" if by_order else left
        if name == "corCompSymm":
            found.append(f"cs({group})")
            continue
        found.append(f"{NLME_CORRELATIONS[name]}({left} | {group})")
        if by_order:
            notes.append("time is a column with the places of the rows, for which nlme takes their order.")
        if name == "corSymm" and not variances:
            notes.append("us has a variance for every visit, too; nlme's with weights = varIdent(form = ~ 1 | visit).")
        if name == "corARMA" and re.search(r"[pq]\s*=\s*[^1\s,)]", arguments):
            notes.append("Of order (1, 1) only.")
    own = [f"{NLME_VARIANCES[name]}" + _of_variance(name, arguments, notes) for name, arguments in variances]
    if found and found[0].startswith("us("):
        # Visits whose variances differ are part of the unstructured covariance.
        own = [one for one in own if not one.startswith("by(")]
    return _residual("nlme", " + ".join([*own, *found]), " ".join(notes))


def _of_variance(name: str, arguments: str, notes: list[str]) -> str:
    left, group = _formula(arguments)
    if name == "varIdent":
        return f"({(group or 'g').replace('*', ':').replace(' ', '')})"
    if left in ("", "fitted(.)", "fitted(.", "1"):
        notes.append("first is a column with the fitted values of a first fit: data['first'] = fit.fitted().")
        return "(first)"
    if group:
        notes.append(f"One parameter for all levels of {group}.")
    return f"({left})"


def _dispersion(text: str) -> Translated | None:
    match = re.search(r"dispformula\s*=\s*~\s*([^,)]+)", text)
    if match is None:
        return None
    right = match[1].strip()
    if right == "0":
        return None
    if re.fullmatch(rf"{_NAME}(\s*[*:]\s*{_NAME})*", right):
        factor = re.sub(r"\s*[*:]\s*", ":", right)
        note = f"If {right} is a column of numbers: residual='exp({right})'." if ":" not in factor else ""
        return _residual("glmmTMB", f"by({factor})", note)
    terms = [term.strip() for term in right.split("+") if term.strip() not in ("0", "1")]
    return _residual("glmmTMB", " + ".join(f"by({term})" for term in terms), "Columns of numbers have exp(x).")


def _glmmtmb(text: str) -> Translated | None:
    match = re.search(
        rf"(?<![\w.])({'|'.join(_GLMMTMB)})\s*\(\s*(?:0\s*\+\s*)?([^()|]*?)(\s*\+\s*0)?\s*\|\s*([^()]+?)\s*\)", text
    )
    if match is None or not (match[3] or re.search(r"\(\s*0\s*\+", match[0])):
        return None
    word, left, group = _GLMMTMB[match[1]], match[2].strip(), match[4]
    note = (
        ""
        if re.search(r"dispformula\s*=\s*~\s*0", text)
        else (
            "There it is a covariance of effects with a residual variance on top, unless dispformula = ~ 0; as effects "
            f"it is {match[1] if match[1] in ('ar1', 'us', 'cs', 'diag') else 'a term'} in the formula here, too."
        )
    )
    if word == "by":
        return _residual("glmmTMB", f"by({left})", note)
    if group == "1" or group == "pos":
        return None
    return _residual("glmmTMB", f"{word}({left} | {group})", note)


def _mmrm(text: str) -> Translated | None:
    match = re.search(rf"(?<![\w.])({'|'.join(_MMRM)})\s*\(\s*([^()|]+?)\s*\|\s*({_NAME})\s*/\s*({_NAME})\s*\)", text)
    if match is not None:
        return _residual("mmrm", f"{_MMRM[match[1]]}({match[2]} | {match[4]}, by={match[3]})")
    match = re.search(rf"(?<![\w.])(sp_exp)\s*\(\s*([^()|]+?)\s*\|\s*({_NAME})\s*\)", text)
    if match is not None:
        return _residual("mmrm", f"exp({match[2].replace(',', ' +')} | {match[3]})")
    return None


def _sas(text: str) -> Translated | None:
    match = re.search(r"(?i)\btype\s*=\s*([a-z]+\s*(?:\([^()]*\))?)\s*(\([^()]*\))?", text)
    bare = re.fullmatch(r"(?i)\s*([a-z]+\s*(?:\([a-z0-9, ]*\))?)\s*(\([^()|]*\))?\s*", text) if match is None else None
    found = match or bare
    if found is None:
        return None
    word, places = re.sub(r"\s", "", found[1]).upper(), (found[2] or "").strip("()").split()
    if word not in _SAS or (match is None and word == "VC"):
        return None
    repeated = re.search(rf"(?i)\brepeated\s+({_NAME})\s*/", text)
    visit = " + ".join(places) if places else repeated[1] if repeated else "visit"
    subject, arm = (re.search(rf"(?i)\b{name}\s*=\s*([\w.*()]+)", text) for name in ("sub(?:ject)?", "group"))
    group = re.sub(r"[*(]", ":", subject[1]).rstrip(")") if subject else "patient"
    here = _SAS[word]
    if here == "by":
        return _residual("SAS", f"by({arm[1]})") if arm else None
    inside = group if here == "cs" else f"{visit} | {group}"
    note = ""
    if word == "TOEP" or word == "AR(1)":
        note = "One variance for all visits, as there."
    return _residual("SAS", f"{here}({inside}{f', by={arm[1]}' if arm else ''})", note)


def _arguments(text: str, name: str) -> tuple[list[str], dict[str, str]]:
    """What a call of a function has between its brackets: without and with names; the first is at least empty."""
    pieces = [piece.strip() for piece in re.split(r",(?![^()]*\))", _calls(text, {name: ""})[0][1])]
    pairs = (piece.partition("=") for piece in pieces)
    named = {key.strip(): value.strip() for key, _, value in pairs if value and "~" not in key and "(" not in key}
    return [piece for piece in pieces if piece.partition("=")[0].strip() not in named] or [""], named


def _whole_call(text: str) -> Translated | None:
    """A call of gls, lme or lmer in place of a formula."""
    match = re.match(rf"\s*(?:\w+::)?({'|'.join(_PACKAGES)})\s*\(", text)
    if match is None:
        return None
    name, (plain, named) = match[1], _arguments(text[match.start(1) :], match[1])
    # By name, or in their order.
    unnamed = iter(plain)
    keys = (("formula", "model", "fixed"), ("data",), ("random",))
    given = [next((named[key] for key in own if key in named), None) or next(unnamed, "") for own in keys]
    formula, data, random = given
    if not formula:
        return None
    if name == "lme":
        bar = re.fullmatch(r"~\s*([^|]+?)\s*\|\s*(.+)", random)
        formula += f" + ({bar[1]} | {bar[2]})" if bar else " + (1 | g)"
    residual = _nlme(text)
    structure = residual.line if residual else "residual='independent'" if name == "gls" else ""
    notes = [residual.note] if residual and residual.note else []
    if "ML" in (named.get("method", "").strip("\"'"), {"FALSE": "ML", "F": "ML"}.get(named.get("REML", ""))):
        notes.append("ML: fit(reml=False).")
    line = ", ".join([f"bl.Model({formula!r}", data or "data", *([structure] if structure else [])])
    return Translated(_PACKAGES[name], f"{line})", " ".join(notes))


def _metafor(text: str) -> Translated | None:
    match = re.search(r"(?<![\w.])rma(\.mv|\.uni)?\s*\(", text)
    if match is None:
        return None
    plain, named = _arguments(text[match.start() :], f"rma{match[1] or ''}")
    first = named.pop("yi", None) or plain.pop(0)
    effect = first.split("~")
    formula = named.get("mods", "~" + (effect[1] if len(effect) > 1 else "1")).lstrip("~ ").strip()
    groups = re.findall(r"~\s*([^|~,()]+?)\s*\|\s*([\w./: ]+)", named.get("random", ""))
    word = METAFOR_STRUCTS.get(named.get("struct", "CS").strip("\"'").upper(), "us")
    bars = [
        f"(1 | {group.strip()})" if left == "1" else f"{word}(0 + {left} | {group.strip()})" for left, group in groups
    ] or ["(1 | study)"]
    if "sei" in named:
        sd = named["sei"]
    else:
        sd = f"sqrt({named.get('vi') or named.get('V') or (plain[0] if plain else 'vi')})"
    model = f"bl.Model('{effect[0].strip()} ~ {' + '.join([formula, *bars])}', {named.get('data', 'data')}"
    notes = []
    if not groups:
        notes.append("study is a column with a label for every row.")
    if named.get("method", "").strip("\"'") in ("FE", "EE"):
        notes.append("Without tau: fit(fix={'theta': [0]}).")
    elif named.get("method", "").strip("\"'") == "ML":
        notes.append("ML: fit(reml=False).")
    if named.get("test", "").strip("\"'") in ("knha", "hksj"):
        notes.append("fit.coefficients(ddf='knapp-hartung').")
    if "V" in named or (match[1] == ".mv" and plain[:1] == ["V"]):
        notes.append("Covariances of sampling errors (V as a matrix) are not there, variances are.")
    return Translated("metafor", f"{model}, residual_sd='{sd}')", " ".join(notes))


def refuse_elsewhere(given: Mapping[str, Any], weights: Any = None) -> None:
    """Refuse arguments that are those of another package, with the line that takes their place.

    Parameters
    ----------
    given : mapping of str to object
        Arguments that a model does not have.
    weights : object
        What ``weights=`` was given beside them.

    Raises
    ------
    DesignError
    """
    texts = {name: value for name, value in given.items() if isinstance(value, str)}
    if not texts:
        return
    beside = [f"weights = {weights}"] if isinstance(weights, str) and weights.startswith("var") else []
    found = translated(", ".join([*(f"{name} = {value}" for name, value in texts.items()), *beside]))
    if found is not None:
        raise DesignError(f"The argument {next(iter(texts))}= of bl.Model() is not there. {found.words}")
