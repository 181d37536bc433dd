"""Tests of terms and of fits: analysis of variance tables, likelihood ratios, leaving terms out."""

from bayeslmm.testing.nested_fits import anova

__all__ = ["anova"]
