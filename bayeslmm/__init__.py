"""bayeslmm: one lme4-style formula, two inferences.

Public names are resolved on first use, so that importing the package costs next to nothing and loads neither
pandas nor PyMC.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bayeslmm.home import provide

if TYPE_CHECKING:
    from bayeslmm.bayes.priors import (
        Cauchy,
        Chi,
        Decov,
        Exponential,
        Flat,
        FlatFactor,
        Gamma,
        HalfCauchy,
        HalfNormal,
        HalfT,
        InverseGammaVariance,
        Normal,
        Power,
        Priors,
        Relative,
        StudentT,
        Uniform,
        Wishart,
    )
    from bayeslmm.boundary.zero_test import ZeroTest, ZeroTests
    from bayeslmm.boundary.zero_tests import ranova
    from bayeslmm.calibration import (
        Calibration,
        Cell,
        Coverage,
        CoverageStudy,
        calibrate,
        coverage,
        coverage_atlas,
        coverage_grid,
        coverage_study,
    )
    from bayeslmm.comparison import Comparison, ModelComparison, compare
    from bayeslmm.comparison.means import ComparedMeans
    from bayeslmm.datasets import list_datasets, load_dataset
    from bayeslmm.design import Design, parse_formula
    from bayeslmm.design.contrasts import Treatment
    from bayeslmm.design.covariance import (
        AR1,
        CompoundSymmetry,
        Diagonal,
        HeterogeneousAR1,
        HeterogeneousCompoundSymmetry,
        Identity,
        Toeplitz,
        Unstructured,
    )
    from bayeslmm.errors import (
        ArgumentError,
        BayesLMMError,
        BayesLMMWarning,
        ConvergenceWarning,
        DatasetError,
        DesignError,
        FitError,
        FormulaError,
        PriorError,
        PriorWarning,
        RowsNeededError,
        SingularFitWarning,
        StorageError,
        UnknownNameError,
    )
    from bayeslmm.explorer import Explorer, explore
    from bayeslmm.faces import Posterior, REMLResult
    from bayeslmm.likelihood import NormalPrior
    from bayeslmm.linting.check import lint
    from bayeslmm.many import ManyFits, fit_many
    from bayeslmm.means.marginal import MarginalMeans
    from bayeslmm.means.of_draws import PosteriorMeans
    from bayeslmm.model import Model, load
    from bayeslmm.one_page import report
    from bayeslmm.planning import Plan, PowerStudy, power
    from bayeslmm.plots import (
        plot_acf,
        plot_boundary,
        plot_coverage,
        plot_forest,
        plot_groups,
        plot_influence,
        plot_interaction,
        plot_means,
        plot_models,
        plot_plane,
        plot_prior_sweep,
        plot_profile,
        plot_ranef,
        plot_semivariogram,
        plot_shrinkage,
        plot_variance,
    )
    from bayeslmm.teaching import error_contrasts, lm_list
    from bayeslmm.testing import anova

__version__ = "0.1.0"

_PRIORS = "bayeslmm.bayes.priors"
_ERRORS = "bayeslmm.errors"
_HOMES = {
    "Model": "bayeslmm.model",
    "load": "bayeslmm.model",
    "REMLResult": "bayeslmm.faces",
    "Posterior": "bayeslmm.faces",
    "Design": "bayeslmm.design",
    "parse_formula": "bayeslmm.design",
    "lint": "bayeslmm.linting.check",
    "Treatment": "bayeslmm.design.contrasts",
    "Unstructured": "bayeslmm.design.covariance",
    "Diagonal": "bayeslmm.design.covariance",
    "HeterogeneousAR1": "bayeslmm.design.covariance",
    "HeterogeneousCompoundSymmetry": "bayeslmm.design.covariance",
    "Identity": "bayeslmm.design.covariance",
    "Toeplitz": "bayeslmm.design.covariance",
    "CompoundSymmetry": "bayeslmm.design.covariance",
    "AR1": "bayeslmm.design.covariance",
    "Plan": "bayeslmm.planning",
    "PowerStudy": "bayeslmm.planning",
    "power": "bayeslmm.planning",
    "calibrate": "bayeslmm.calibration",
    "Calibration": "bayeslmm.calibration",
    "Cell": "bayeslmm.calibration",
    "Coverage": "bayeslmm.calibration",
    "CoverageStudy": "bayeslmm.calibration",
    "coverage": "bayeslmm.calibration",
    "coverage_atlas": "bayeslmm.calibration",
    "coverage_grid": "bayeslmm.calibration",
    "coverage_study": "bayeslmm.calibration",
    "compare": "bayeslmm.comparison",
    "Comparison": "bayeslmm.comparison",
    "ComparedMeans": "bayeslmm.comparison.means",
    "ManyFits": "bayeslmm.many",
    "fit_many": "bayeslmm.many",
    "MarginalMeans": "bayeslmm.means.marginal",
    "PosteriorMeans": "bayeslmm.means.of_draws",
    "ModelComparison": "bayeslmm.comparison",
    "plot_variance": "bayeslmm.plots",
    "report": "bayeslmm.one_page",
    "Explorer": "bayeslmm.explorer",
    "explore": "bayeslmm.explorer",
    "ranova": "bayeslmm.boundary.zero_tests",
    "ZeroTest": "bayeslmm.boundary.zero_test",
    "ZeroTests": "bayeslmm.boundary.zero_test",
    "plot_acf": "bayeslmm.plots",
    "plot_boundary": "bayeslmm.plots",
    "plot_coverage": "bayeslmm.plots",
    "plot_forest": "bayeslmm.plots",
    "plot_groups": "bayeslmm.plots",
    "plot_influence": "bayeslmm.plots",
    "plot_plane": "bayeslmm.plots",
    "plot_interaction": "bayeslmm.plots",
    "plot_means": "bayeslmm.plots",
    "plot_models": "bayeslmm.plots",
    "plot_prior_sweep": "bayeslmm.plots",
    "plot_profile": "bayeslmm.plots",
    "plot_ranef": "bayeslmm.plots",
    "plot_semivariogram": "bayeslmm.plots",
    "plot_shrinkage": "bayeslmm.plots",
    "anova": "bayeslmm.testing",
    "error_contrasts": "bayeslmm.teaching",
    "lm_list": "bayeslmm.teaching",
    "load_dataset": "bayeslmm.datasets",
    "list_datasets": "bayeslmm.datasets",
    "Chi": _PRIORS,
    "Decov": _PRIORS,
    "FlatFactor": _PRIORS,
    "Gamma": _PRIORS,
    "Normal": _PRIORS,
    "Relative": _PRIORS,
    "StudentT": _PRIORS,
    "Cauchy": _PRIORS,
    "Wishart": _PRIORS,
    "HalfT": _PRIORS,
    "HalfNormal": _PRIORS,
    "HalfCauchy": _PRIORS,
    "Exponential": _PRIORS,
    "Uniform": _PRIORS,
    "Flat": _PRIORS,
    "Power": _PRIORS,
    "InverseGammaVariance": _PRIORS,
    "Priors": _PRIORS,
    "NormalPrior": "bayeslmm.likelihood",
    "ArgumentError": _ERRORS,
    "BayesLMMError": _ERRORS,
    "FormulaError": _ERRORS,
    "DesignError": _ERRORS,
    "RowsNeededError": _ERRORS,
    "PriorError": _ERRORS,
    "PriorWarning": _ERRORS,
    "FitError": _ERRORS,
    "DatasetError": _ERRORS,
    "BayesLMMWarning": _ERRORS,
    "ConvergenceWarning": _ERRORS,
    "SingularFitWarning": _ERRORS,
    "StorageError": _ERRORS,
    "UnknownNameError": _ERRORS,
}

__all__ = [
    "AR1",
    "ArgumentError",
    "BayesLMMError",
    "BayesLMMWarning",
    "Calibration",
    "Cauchy",
    "Cell",
    "Chi",
    "ComparedMeans",
    "Comparison",
    "CompoundSymmetry",
    "ConvergenceWarning",
    "Coverage",
    "CoverageStudy",
    "DatasetError",
    "Decov",
    "Design",
    "DesignError",
    "Diagonal",
    "Explorer",
    "Exponential",
    "FitError",
    "Flat",
    "FlatFactor",
    "FormulaError",
    "Gamma",
    "HalfCauchy",
    "HalfNormal",
    "HalfT",
    "HeterogeneousAR1",
    "HeterogeneousCompoundSymmetry",
    "Identity",
    "InverseGammaVariance",
    "ManyFits",
    "MarginalMeans",
    "Model",
    "ModelComparison",
    "Normal",
    "NormalPrior",
    "Plan",
    "Posterior",
    "PosteriorMeans",
    "Power",
    "PowerStudy",
    "PriorError",
    "PriorWarning",
    "Priors",
    "REMLResult",
    "Relative",
    "RowsNeededError",
    "SingularFitWarning",
    "StorageError",
    "StudentT",
    "Toeplitz",
    "Treatment",
    "Uniform",
    "UnknownNameError",
    "Unstructured",
    "Wishart",
    "ZeroTest",
    "ZeroTests",
    "anova",
    "calibrate",
    "compare",
    "coverage",
    "coverage_atlas",
    "coverage_grid",
    "coverage_study",
    "error_contrasts",
    "explore",
    "fit_many",
    "lint",
    "list_datasets",
    "lm_list",
    "load",
    "load_dataset",
    "parse_formula",
    "plot_acf",
    "plot_boundary",
    "plot_coverage",
    "plot_forest",
    "plot_groups",
    "plot_influence",
    "plot_interaction",
    "plot_means",
    "plot_models",
    "plot_plane",
    "plot_prior_sweep",
    "plot_profile",
    "plot_ranef",
    "plot_semivariogram",
    "plot_shrinkage",
    "plot_variance",
    "power",
    "ranova",
    "report",
]


provide()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        if name.startswith("_"):
            raise AttributeError(f"module 'bayeslmm' has no attribute {name!r}")
        import_module("bayeslmm.habits").no_function(name, __all__)
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
