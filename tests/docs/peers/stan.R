# What brms and rstanarm print for sleepstudy under their default priors, with Monte Carlo standard errors.
# Rscript stan.R rstanarm writes rstanarm.json, Rscript stan.R brms writes brms.json; a few minutes each.
library(jsonlite)
library(posterior)
data(sleepstudy, package = "lme4")
options(mc.cores = 2)

rows <- function(draws, names) {
  found <- summarise_draws(
    subset_draws(draws, variable = names(names)), "mean", "sd", ~quantile2(.x, c(0.025, 0.975)), "mcse_mean", "mcse_sd",
    mcse = ~mcse_quantile(.x, c(0.025, 0.975))
  )
  found <- as.data.frame(found)
  found$variable <- unname(names[found$variable])
  found
}
keep <- function(file, packages, fit_rows, elpd, priors) {
  write_json(
    list(
      package = packages, draws = 20000, priors = priors, rows = fit_rows,
      loo = list(estimate = elpd$estimates["elpd_loo", "Estimate"], se = elpd$estimates["elpd_loo", "SE"])
    ),
    file, auto_unbox = TRUE, digits = 8, pretty = TRUE
  )
}
version <- function(name) paste(name, as.character(packageVersion(name)))

formula <- Reaction ~ Days + (Days | Subject)

if ("rstanarm" %in% commandArgs(TRUE)) {
  library(rstanarm)
  fit <- stan_lmer(formula, sleepstudy, seed = 1, chains = 4, warmup = 1000, iter = 6000, refresh = 0)
  draws <- as_draws_array(as.array(fit))
  draws <- mutate_variables(
    draws,
    sd0 = sqrt(`Sigma[Subject:(Intercept),(Intercept)]`), sd1 = sqrt(`Sigma[Subject:Days,Days]`),
    rho = `Sigma[Subject:Days,(Intercept)]` / (sd0 * sd1)
  )
  names <- c(
    "(Intercept)" = "Intercept", Days = "Days", sd0 = "sd_Subject[Intercept]", sd1 = "sd_Subject[Days]",
    rho = "corr_Subject[Intercept.Days]", sigma = "sigma"
  )
  priors <- capture.output(prior_summary(fit))
  keep("rstanarm.json", version("rstanarm"), rows(draws, names), loo(fit), priors)
}

if ("brms" %in% commandArgs(TRUE)) {
  library(brms)
  fit <- brm(formula, sleepstudy, seed = 1, chains = 4, warmup = 1000, iter = 6000, refresh = 0, silent = 2)
  names <- c(
    b_Intercept = "Intercept", b_Days = "Days", sd_Subject__Intercept = "sd_Subject[Intercept]",
    sd_Subject__Days = "sd_Subject[Days]", cor_Subject__Intercept__Days = "corr_Subject[Intercept.Days]", sigma = "sigma"
  )
  priors <- capture.output(print(prior_summary(fit)))
  keep("brms.json", version("brms"), rows(as_draws_array(fit), names), loo(fit), priors)
}
