# Writes explained_performance.json: R2 and ICC by performance::r2_nakagawa and icc, from fits by lme4 at a tight tolerance.
# Run in this folder: Rscript explained_performance.R
suppressMessages({library(lme4); library(performance); library(jsonlite)})
data("Machines", package = "nlme"); data("Orthodont", package = "nlme"); data("Oats", package = "nlme")
models <- list(
  sleepstudy = list(Reaction ~ Days + (Days | Subject), sleepstudy),
  sleepstudy_slope_only = list(Reaction ~ Days + (0 + Days | Subject), sleepstudy),
  pastes = list(strength ~ 1 + (1 | batch/cask), Pastes),
  penicillin = list(diameter ~ 1 + (1 | plate) + (1 | sample), Penicillin),
  machines_worker = list(score ~ Machine + (1 | Worker), as.data.frame(Machines)),
  machines_nested = list(score ~ Machine + (1 | Worker/Machine), as.data.frame(Machines)),
  oats_nitro = list(yield ~ nitro + (1 | Block/Variety), as.data.frame(Oats)),
  cake_temp = list(angle ~ recipe + temp + (1 | recipe:replicate), cake))
control <- lmerControl(optimizer = "nloptwrap", calc.derivs = FALSE,
                       optCtrl = list(algorithm = "NLOPT_LN_BOBYQA", xtol_abs = 1e-14, xtol_rel = 1e-14,
                                      ftol_abs = 1e-15, ftol_rel = 1e-15, maxeval = 1e5))
answer <- lapply(models, function(m) {
  fit <- lmer(m[[1]], m[[2]], control = control)
  r2 <- r2_nakagawa(fit, tolerance = 0)
  out <- list(r2_marginal = unname(r2$R2_marginal), r2_conditional = unname(r2$R2_conditional),
              icc = icc(fit, tolerance = 0)$ICC_adjusted)
  slopes <- any(sapply(ranef(fit), function(x) any(names(x) != "(Intercept)")))
  if (!slopes) {
    by <- icc(fit, by_group = TRUE, tolerance = 0)
    out$by_group <- setNames(as.list(by$ICC), by$Group)
  }
  out
})
write(toJSON(answer, digits = I(15), auto_unbox = TRUE, pretty = TRUE), "explained_performance.json")
