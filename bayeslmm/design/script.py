"""Text of a program, which notebooks show as code."""

from __future__ import annotations

import re


class Script(str):
    """Text of a program, which notebooks show as code.

    Parameters
    ----------
    text : str
    language : str
        For the highlighting.

    Examples
    --------
    >>> Script("lmer(y ~ x + (1 | g))", "r")
    lmer(y ~ x + (1 | g))
    """

    language: str

    def __new__(cls, text: str, language: str = "") -> Script:
        script = super().__new__(cls, text)
        script.language = language
        return script

    def __reduce__(self) -> tuple[type[Script], tuple[str, str]]:
        return type(self), (str(self), self.language)

    def _repr_markdown_(self) -> str:
        # A fence that no row of backquotes in the text can close.
        fence = max(["```", *(run + "`" for run in re.findall("`+", self))], key=len)
        return f"{fence}{self.language}\n{self}\n{fence}"

    def __repr__(self) -> str:
        return str(self)
