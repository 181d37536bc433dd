"""Analysis of variance: tables of terms, comparisons of fits, and leaving terms out."""

from bayeslmm.anova.table import anova

__all__ = ["anova"]
