"""Names that people type from habit, and what they are called here: attributes, arguments, functions of the module."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from bayeslmm.errors import BayesLMMError, UnknownNameError

_NOTHING = "nothing: "
# Of a fit by REML or ML: what lme4, nlme, statsmodels, MATLAB and MixedModels.jl call it.
FIT: Mapping[str, str] = {
    "params": "fit.fixef() has the fixed effects, fit.estimates() all parameters",
    "tau2": "fit.heterogeneity().tau2, of a model with known standard errors",
    "I2": "fit.heterogeneity().I2, of a model with known standard errors",
    "H2": "fit.heterogeneity().H2, of a model with known standard errors",
    "QE": "fit.heterogeneity().Q, of a model with known standard errors",
    "QM": "fit.heterogeneity().moderators, of a model with known standard errors",
    "blup": "fit.predict()",
    "leave1out": "fit.influence().estimates",
    "fe_params": "fit.fixef()",
    "bse": "fit.std_error()",
    "bse_fe": "fit.std_error()",
    "stderror": "fit.std_error()",
    "tvalues": 'fit.coefficients()["t"]',
    "pvalues": 'fit.coefficients()["p_value"], with degrees of freedom by ddf=',
    "conf_int": "fit.confint() has profile intervals of all parameters, fit.coefficients() those of the fixed effects",
    "intervals": "fit.confint()",
    "resid": "fit.residuals()",
    "fittedvalues": "fit.fitted()",
    "llf": "fit.loglik",
    "logLik": "fit.loglik",
    "loglikelihood": "fit.loglik",
    "log_likelihood": "fit.loglik",
    "deviance": "fit.criterion, the deviance of an ML fit (model.fit(reml=False)) and the REML criterion of a REML fit",
    "objective": "fit.criterion",
    "REMLcrit": "fit.criterion",
    "AIC": "fit.aic",
    "BIC": "fit.bic",
    "nobs": "fit.n",
    "df_resid": "fit.coefficients(), where every coefficient has degrees of freedom of its own",
    "scale": "fit.sigma**2; fit.sigma is the residual standard deviation",
    "random_effects": "fit.ranef()",
    "random_effects_cov": "fit.ranef_variances()",
    "coef_random": "fit.ranef()",
    "cov_re": "fit.varcorr()",
    "vcomp": "fit.varcorr()",
    "VarCorr": "fit.varcorr()",
    "cov_params": "fit.vcov()",
    "isSingular": "fit.is_singular",
    "issingular": "fit.is_singular",
    "getME": "fit.theta, fit.matrices() and fit.mme()",
    "converged": "fit.status.ok; fit.status says how the optimisation ended",
    "t_test": 'fit.test_fixed("name")',
    "f_test": 'fit.test_fixed("name")',
    "wald_test": 'fit.test_fixed("name")',
    "bootMer": "fit.bootstrap()",
    "parametricbootstrap": "fit.bootstrap()",
    "ACF": "fit.acf(), bl.plot_acf(fit)",
    "Variogram": "fit.semivariogram(), bl.plot_semivariogram(fit)",
    "getVarCov": "fit.residual_covariance()",
    "lmList": "bl.lm_list(formula, data)",
    "ranova": "bl.ranova(fit)",
    "posterior": "model.sample(): a fit has estimates only",
    "sample": "model.sample(); model is what the fit was made from",
    "model": "fit.design, fit.formula",
    "to_frame": "fit.tidy()",
    **dict.fromkeys(("emmeans", "lsmeans", "ls_means", "marginal_means"), 'fit.means("factor")'),
    **dict.fromkeys(("pairs", "tukey", "glht", "posthoc"), 'fit.means("factor").pairs(), by Tukey\'s method'),
    **dict.fromkeys(("contrast", "contrasts"), 'fit.means("factor").contrast(...) and fit.estimable({...})'),
    **dict.fromkeys(("emtrends", "lstrends", "slopes"), 'fit.trends("x")'),
    "Anova": 'fit.anova(2, test="chisq")',
    "anova_lm": "fit.anova()",
    **dict.fromkeys(("cooks", "get_influence"), "fit.influence(), fit.cooks_distance() and fit.leverage()"),
    "hatvalues": "fit.leverage()",
    "rstudent": 'fit.residuals("standardised")',
    "dotplot": "bl.plot_ranef(fit)",
    "powerSim": "bl.power(fit, {...})",
    **dict.fromkeys(("plot_residuals", "plotResiduals", "qqplot"), "fit.plot()"),
    "bse_re": 'fit.variances("variance")',
    "profile_re": "fit.profile(label)",
    "wald_test_terms": "fit.anova()",
    "t_test_pairwise": 'fit.means("factor").pairs()',
    "augPred": "bl.plot_groups(fit)",
    "tTable": 'fit.coefficients(ddf="containment")',
    "fixedEffects": "fit.fixef()",
    "randomEffects": "fit.ranef()",
    "covarianceParameters": "fit.varcorr()",
    "coefCI": "fit.coefficients()",
    "coefTest": 'fit.test_fixed("name")',
    "compare": "bl.anova(fit0, fit1)",
    "designMatrix": "fit.matrices()",
    "random": "fit.simulate()",
    "Rsquared": "fit.r2()",
    "MSE": "fit.sigma**2; fit.sigma is the residual standard deviation",
    "ModelCriterion": "fit.aic, fit.bic and fit.loglik",
    "LogLikelihood": "fit.loglik",
    "hypothesis": "fit.estimable({...})",
    "loo": "fit.cv(), or model.sample().loo()",
    "pp_check": "fit.simulate()",
    "to": "model.to(package); model is what the fit was made from",
    **dict.fromkeys(("report", "to_html"), "bl.report(fit, 'out.html'), one page that needs no network"),
}
# Of a posterior: what ArviZ, bambi, brms and rstanarm call it.
POSTERIOR: Mapping[str, str] = {
    "update": "model.update(...).sample(...)",
    "posterior": 'post.data["posterior"] (post.data is the DataTree that ArviZ takes)',
    "sample_stats": 'post.data["sample_stats"]',
    "observed_data": 'post.data["observed_data"]',
    "log_likelihood": 'post.data["log_likelihood"]; post.loo() does not need it',
    "posterior_predictive": "post.predict_draws(), or post.add_groups()",
    "idata": "post.data",
    "trace": "post.data",
    "to_netcdf": 'post.save("name.nc"), to be read by bl.load',
    "to_zarr": 'post.save("name.zarr"), to be read by bl.load',
    "to_dataframe": "post.table() has one row per parameter, post.draws(label) the draws of one",
    "to_frame": "post.table()",
    "as_draws": "post.draws(label)",
    "posterior_samples": "post.draws(label)",
    "posterior_interval": "post.hdi()",
    "posterior_predict": "post.predict_draws()",
    "posterior_epred": "post.predict()",
    "waic": "post.loo(), which is the better estimate of the same",
    "bayes_R2": "post.r2()",
    "loo_R2": "post.r2()",
    "bridge_sampler": "post.log_evidence",
    "marginal_likelihood": "post.log_evidence",
    "VarCorr": "post.varcorr()",
    "random_effects": "post.ranef()",
    "params": "post.fixef() has the fixed effects, post.estimates() all parameters",
    "conf_int": "post.hdi()",
    "pvalues": "post.probability_below(label, 0): a posterior has probabilities of effects, no p values",
    "resid": "post.residuals()",
    "prior_summary": "post.prior_table()",
    "plot_trace": "arviz_plots.plot_trace(post.data)",
    "plot_forest": "arviz_plots.plot_forest(post.data), or bl.plot_forest(post) for the studies of a meta-analysis",
    "coefficients": "post.table()",
    "hypothesis": "post.estimable({...}), post.probability_below(label, value) and post.bayes_factor(label)",
    "pp_check": 'post.add_groups("posterior_predictive"), for arviz_plots.plot_ppc_dist(post.data)',
    "conditional_effects": "post.predict(newdata, random=None), post.means(...) and post.trends(...)",
    "interpret": "post.predict(newdata), post.means(...) and post.trends(...)",
    "posterior_summary": "post.table()",
    "posterior_linpred": "post.predict()",
    **dict.fromkeys(("as_matrix", "as_data_frame"), "post.draws(label)"),
    "ndraws": "post.n_draws",
    "rhat": "post.diagnostics, post.certificate() in words",
    "stancode": "model.pymc_source(), the model as a PyMC program",
    "loo_compare": "bl.compare(model1, model2)",
    **dict.fromkeys(("emmeans", "marginal_means"), 'post.means("factor")'),
    "compute_log_likelihood": 'post.add_groups("log_likelihood"); post.loo() does not need it',
    **dict.fromkeys(("report", "to_html"), "bl.report(post, 'out.html'), one page that needs no network"),
}
# Of a model that is not fitted yet.
MODEL: Mapping[str, str] = {
    "summary": "model.fit().summary() or model.sample().summary()",
    "params": "model.fit().fixef()",
    "fixef": "model.fit().fixef() or model.sample().fixef()",
    "ranef": "model.fit().ranef() or model.sample().ranef()",
    "predict": "model.fit().predict(...) or model.sample().predict(...)",
    "confint": "model.fit().confint()",
    "coefficients": "model.fit().coefficients()",
    "boundary": "model.fit().boundary()",
    "loo": "model.sample().loo()",
    "build": "model.to_pymc(): there is nothing to build before model.sample()",
    "backend": "model.to_pymc()",
    **dict.fromkeys(("get_prior", "prior_summary"), "model.priors()"),
    "set_priors": "model.sample(priors=...)",
    "make_stancode": "model.pymc_source(), the model as a PyMC program",
    "graph": "model.latex(), model.pymc_source()",
    "plot_priors": "model.priors() has them in words; model.prior_predictive() has draws",
    "data": "model.design: arrays and names (the data frame is not kept)",
    "endog": "model.design.y",
    "exog": "model.design.X",
    "lmer": "model.fit()",
}
# Of a comparison of a fit and a posterior.
COMPARISON: Mapping[str, str] = {
    "summary": "print(both), or both.table",
    "to_html": "bl.report(both, 'out.html'), both.to_markdown() and both.to_latex(); notebooks show both itself",
    "report": "bl.report(both, 'out.html'), one page that needs no network",
    "save": "fit.save and post.save; bl.compare of what bl.load reads is the same again",
    "to_frame": "both.table, both.long, both.fixed and both.groups",
    "to_csv": "both.table.to_csv(path)",
    "plot": "bl.plot_variance(both), bl.plot_boundary(both, parameter), bl.plot_shrinkage(both)",
}
MODULE: Mapping[str, str] = {
    "lmer": "bl.Model(formula, data).fit()",
    "lme": "bl.Model(formula, data).fit()",
    "lmm": "bl.Model(formula, data).fit()",
    "gls": "bl.Model(formula, data, residual='ar1(time | g)').fit()",
    "mmrm": "bl.Model(formula, data, residual='us(visit | patient)').fit()",
    **dict.fromkeys(("rma", "rma_uni"), "bl.Model('yi ~ 1 + (1 | study)', data, residual_sd='sqrt(vi)').fit()"),
    "rma_mv": "bl.Model('yi ~ 1 + (1 | district/school)', data, residual_sd='sqrt(vi)').fit()",
    "forest": "bl.plot_forest(fit)",
    "corAR1": "the argument residual= of bl.Model: residual='ar1(time | g)'",
    "varIdent": "the argument residual= of bl.Model: residual='by(g)'",
    "ACF": "fit.acf(), bl.plot_acf(fit)",
    "Variogram": "fit.semivariogram(), bl.plot_semivariogram(fit)",
    "mixedlm": "bl.Model(formula, data).fit(), with the groups in the formula: y ~ x + (1 | g)",
    "MixedLM": "bl.Model(formula, data).fit(), with the groups in the formula: y ~ x + (1 | g)",
    "fitlme": "bl.Model(formula, data).fit()",
    "fit": "bl.Model(formula, data).fit()",
    "sample": "bl.Model(formula, data).sample()",
    "brm": "bl.Model(formula, data).sample()",
    "stan_lmer": "bl.Model(formula, data).sample()",
    "blmer": 'bl.Model(formula, data).fit(penalty="wishart")',
    "glmer": "nothing: the response is normal, in lme4 and bambi there are other families",
    "lmList": "bl.lm_list(formula, data)",
    "lmerTest": "fit.coefficients() and fit.test_fixed(...), with Satterthwaite's degrees of freedom",
    "rand": "bl.ranova(fit)",
    **dict.fromkeys(("emmeans", "lsmeans"), 'fit.means("factor"), and .pairs() of it'),
    "Anova": 'fit.anova(2, test="chisq")',
    "get_prior": "bl.Model(formula, data).priors()",
    "glht": 'fit.means("factor").pairs() or .contrast("dunnett")',
    **dict.fromkeys(("drop1", "step"), "fit.drop1() and fit.step()"),
    "influence": "fit.influence()",
    "dotplot": "bl.plot_ranef(fit)",
    "powerSim": "bl.power(fit, {...})",
    "bootMer": "fit.bootstrap()",
    "PBmodcomp": 'bl.anova(fit0, fit1, test="bootstrap")',
    "KRmodcomp": 'fit.anova(ddf="kenward-roger") and fit.test_fixed(..., ddf="kenward-roger")',
    "loo_compare": "bl.compare(model1, model2)",
    "LogNormal": "bl.HalfNormal, bl.HalfT, bl.Gamma or another of the families here",
    "HalfStudentT": "bl.HalfT",
    "LKJ": 'the key "lkj" of priors=, e.g. priors={"lkj": 2}',
    "read_csv": "pandas.read_csv(path), and the frame goes to bl.Model",
    "get_rdataset": "bl.load_dataset(name)",
}
_SAMPLE_OF_FIT = "model.sample(...) takes it; fit() is the estimate by REML or ML"
# Arguments, by method.
FIT_ARGUMENTS: Mapping[str, str] = {
    "REML": "reml=True or reml=False",
    "method": "reml=True (REML, the default) or reml=False (ML)",
    "FitMethod": "reml=True or reml=False",
    **dict.fromkeys(("draws", "chains", "tune", "cores", "random_seed", "target_accept", "iter"), _SAMPLE_OF_FIT),
    **dict.fromkeys(("inference_method", "nuts_sampler", "progressbar"), _SAMPLE_OF_FIT),
    "control": "nothing: the optimiser has no settings but max_evaluations",
    "optimizer": "nothing: the optimiser has no settings but max_evaluations",
    "maxiter": "max_evaluations",
    "ddfm": "fit().coefficients(ddf=...) and the other tables of a fit",
    "na_action": "nothing: rows with missing values are left out and listed in model.dropped",
    "start": "nothing: a start is computed, and others are compared with it",
    "data": "bl.Model(formula, data), before fit()",
    "weights": "bl.Model(formula, data, weights=...), before fit()",
    "family": "nothing: the response is normal",
    "ddf": "fit().coefficients(ddf=...) and the other tables of a fit",
    "residual_sd": "bl.Model(formula, data, residual_sd=...), before fit()",
    "test": "fit().coefficients(ddf='z') or ddf='knapp-hartung'",
}
FIT_MANY_ARGUMENTS: Mapping[str, str] = {
    "REML": "reml=True or reml=False",
    "method": "reml=True (REML, the default) or reml=False (ML)",
    **dict.fromkeys(("draws", "n_draws"), "posterior=, the draws of every posterior"),
    **dict.fromkeys(("alpha", "level", "conf_level"), "confidence=, the level of intervals"),
    **dict.fromkeys(("cores", "workers", "n_workers", "ncores"), "n_jobs="),
    "adjust": "fits.tidy(adjust=...)",
    "chains": "nothing: draws are independent",
    "fix": "nothing: covariance parameters are estimated; bl.Model(...).fit(fix=...) holds them in one fit",
    "penalty": "nothing: fits are by REML or ML; bl.Model(...).fit(penalty=...) is for one",
    "checkpoint": "store=",
}
_NO_SETTING = "nothing: the samplers here need no such setting; for PyMC's own take model.to_pymc()"
SAMPLE_ARGUMENTS: Mapping[str, str] = {
    **dict.fromkeys(("target_accept", "adapt_delta", "max_treedepth", "control", "init", "thin"), _NO_SETTING),
    **dict.fromkeys(("refresh", "silent"), "progressbar=False"),
    "sample_prior": "model.prior_predictive()",
    "cores": "chains",
    "iter": "draws (over all chains, without tuning)",
    "warmup": "tune",
    "seed": "random_seed",
    "prior": "priors",
    **dict.fromkeys(("parametrisation", "parametrization", "noncentered", "centered"), "form, with method='nuts'"),
    "inference_method": "method",
    "nuts_sampler": "method",
    "backend": "method",
    "idata_kwargs": "log_likelihood=True",
    "reml": "model.fit(reml=...)",
    "REML": "model.fit(reml=...)",
    "family": "nothing: the response is normal",
}
_DRAWN = {"seed": "random_seed", **dict.fromkeys(("nsim", "n_sim", "simulations", "nboot", "R"), "n")}
_WITHOUT_EFFECTS = "random=None (the typical group), 'all' (the default), 'new' (any new group) or names of factors"
PREDICT_ARGUMENTS: Mapping[str, str] = {
    "interval": "kind='observation', with which conf_low and conf_high are those of a new observation, not of its mean",
    **dict.fromkeys(("re_form", "re_formula", "include_group_specific"), _WITHOUT_EFFECTS),
    **dict.fromkeys(("allow_new_levels", "sample_new_groups", "allow_new_groups"), "new_levels='sample'"),
    **dict.fromkeys(("se_fit", "se", "return_std"), "the column std_error, which is always there"),
    **dict.fromkeys(("data", "new_data", "exog", "X"), "newdata"),
    **dict.fromkeys(("conf_level", "ci", "alpha"), "level, 0.95 by default"),
    "type": "kind",
    "seed": "random_seed",
}
RANEF_ARGUMENTS: Mapping[str, str] = {
    **dict.fromkeys(("condVar", "postVar", "cond_var", "se"), "sd=True; fit.ranef_variances() has the covariances"),
    **dict.fromkeys(("which", "whichel", "group"), "fit.ranef()['group']"),
}
SIMULATE_ARGUMENTS: Mapping[str, str] = {
    **_DRAWN,
    **dict.fromkeys(("effects", "fixed", "fixef"), "beta, e.g. beta={'x': 3}"),
    **dict.fromkeys(("newparams", "params"), "beta, sd, corr and sigma"),
    **dict.fromkeys(
        ("re_form", "re_formula", "use_u"), "random='all' keeps the effects of the fit; by default all are new"
    ),
}
POWER_ARGUMENTS: Mapping[str, str] = {
    **_DRAWN,
    "beta": "effects, e.g. effects={'x': 3}",
    "sd": "sds, e.g. sds={'g': 2}",
    "n_groups": "groups",
    "along": "groups, e.g. groups=[10, 20, 40]",
    "within": "replicates",
    "test": "parameters",
}
CONFINT_ARGUMENTS: Mapping[str, str] = {
    **_DRAWN,
    **dict.fromkeys(("parm", "par", "parameter", "names"), "parameters"),
    **dict.fromkeys(("alpha", "conf_level", "prob"), "level, 0.95 by default"),
    **dict.fromkeys(("boot_type", "boot.type", "type"), "kind, with method='bootstrap'"),
    "ddf": "fit.coefficients(ddf=...)",
}
MODEL_ARGUMENTS: Mapping[str, str] = {
    "REML": "bl.Model(...).fit(reml=...)",
    "reml": "bl.Model(...).fit(reml=...)",
    "priors": "bl.Model(...).sample(priors=...)",
    **dict.fromkeys(("FitMethod", "method"), "bl.Model(...).fit(reml=True) or fit(reml=False)"),
    **dict.fromkeys(("prior", "auto_scale"), "bl.Model(...).sample(priors=...)"),
    "noncentered": "bl.Model(...).sample(method='nuts', form='noncentered')",
    "CovariancePattern": "the formula: (x || g) is 'Diagonal', id(0 + f | g) 'Isotropic', cs(0 + f | g) 'CompSymm'",
    "DummyVarCoding": "contrasts, e.g. contrasts={'f': 'sum'}",
    "groups": "the formula: y ~ x + (1 | g)",
    "re_formula": "the formula: y ~ x + (x | g)",
    "vc_formula": "the formula: one (1 | h) for every variance component",
    "random": "the formula: y ~ x + (x | g)",
    "family": "nothing: the response is normal; lme4 and bambi have other families",
    "link": "nothing: the response is normal",
    "offset": "the formula: y ~ x + offset(z) + (1 | g)",
    "subset": "a data frame that is filtered first: data.query(...)",
    "missing": "nothing: rows with missing values are left out and listed in model.dropped",
    "dropna": "nothing: rows with missing values are left out and listed in model.dropped",
    "correlation": "residual, e.g. residual='ar1(time | g)' (nlme's corAR1), and cov for the effects of a term",
    **dict.fromkeys(("dispformula", "variance"), "residual, e.g. residual='by(sex)' or, of a number, 'exp(x)'"),
    **dict.fromkeys(("covariance", "repeated", "rcov"), "residual, e.g. residual='us(visit | patient)'"),
    "control": "nothing: the optimiser has no settings but max_evaluations of fit()",
    "namespace": "extra_namespace",
    **dict.fromkeys(("sei", "se", "standard_errors"), "residual_sd, the known standard errors of the rows"),
    **dict.fromkeys(("vi", "V", "sampling_variances"), "residual_sd='sqrt(vi)', the known standard errors of the rows"),
    "sigma": "fit(sigma=...) or sample(sigma=...); residual_sd= where it is known row by row",
}


def no_attribute(owner: Any, name: str, habits: Mapping[str, str], shown: str) -> Any:
    """What ``__getattr__`` of a class answers: an error that says what is meant here.

    Parameters
    ----------
    owner : object
    name : str
    habits : mapping of str to str
    shown : str
        What the object is called in messages, e.g. ``"fit"``.

    Raises
    ------
    UnknownNameError
        Also an AttributeError, so that `hasattr`, copies and notebooks see that there is no such attribute.
    """
    if name.startswith("_"):
        raise AttributeError(f"{type(owner).__name__!r} object has no attribute {name!r}")
    if hasattr(type(owner), name):
        # A property failed with an AttributeError of its own, which is the one to show.
        return object.__getattribute__(owner, name)
    raise _unknown(name, _message(f"{shown}.{name}", name, habits, dir(type(owner)), f"{shown}."))


def no_function(name: str, known: Iterable[str]) -> NoReturn:
    """What ``bl.name`` answers where there is no such name.

    Raises
    ------
    UnknownNameError
    """
    raise _unknown(name, _message(f"bl.{name}", name, MODULE, known, "bl."))


def _unknown(name: str, message: str) -> UnknownNameError:
    """The error, named already: Python would add a guess of its own to one that is not."""
    error = UnknownNameError(message)
    error.name = name
    return error


def no_argument(
    shown: str,
    function: Callable[..., Any],
    given: Mapping[str, Any],
    habits: Mapping[str, str],
    error: type[BayesLMMError],
) -> None:
    """Refuse arguments that a method does not have.

    Parameters
    ----------
    shown : str
        What is typed, e.g. ``"model.fit"``.
    function : callable
        The method, whose last parameter takes what is left over; its signature is looked at only then.
    given : mapping of str to object
        All that is left over.
    habits : mapping of str to str
    error : type

    Raises
    ------
    BayesLMMError
        Of the class `error`.
    """
    if not given:
        return
    name = next(iter(given))
    _, *known, _ = inspect.signature(function).parameters
    raise error(_message(f"The argument {name}= of {shown}()", name, habits, known, ""))


def _message(what: str, name: str, habits: Mapping[str, str], known: Iterable[str], lead: str) -> str:
    meant = habits.get(name) or {habit.casefold(): said for habit, said in habits.items()}.get(name.casefold())
    if meant is not None:
        if meant.startswith(_NOTHING):
            return f"{what} is not there, and nothing takes its place: {meant.removeprefix(_NOTHING)}."
        return f"{what} is not there. In its place: {meant}."
    public = [other for other in known if not other.startswith("_")]
    near = difflib.get_close_matches(name, public, n=1, cutoff=0.7)
    if not near:
        near = [other for other in public if other.casefold() == name.casefold()][:1]
    return f"{what} is not there.{f' Did you mean {lead}{near[0]}?' if near else ''}"
