# Predictions of lme4 for rows that the models were not fitted to; writes predictions_lme4.json.
# Run in this folder: Rscript predictions_lme4.R
suppressPackageStartupMessages({library(lme4); library(jsonlite)})
control <- lmerControl(optimizer = "bobyqa", optCtrl = list(rhoend = 1e-10, maxfun = 1e5))
ask <- function(dataset, formula, newdata) {
  fit <- lmer(as.formula(formula), get(dataset), control = control)
  list(dataset = dataset, formula = formula, newdata = newdata,
       known = unname(predict(fit, newdata, allow.new.levels = TRUE)),
       typical = unname(predict(fit, newdata, re.form = NA)))
}
cases <- list(
  ask("sleepstudy", "Reaction ~ poly(Days, 2) + (Days | Subject)",
      data.frame(Days = c(0, 4.5, 12, 3), Subject = c("308", "309", "372", "new"))),
  ask("sleepstudy", "Reaction ~ scale(Days) + (scale(Days) | Subject)",
      data.frame(Days = c(10, 11, -1), Subject = c("308", "new", "350"))),
  ask("Penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)",
      data.frame(plate = c("a", "z", "b"), sample = c("A", "B", "Z"))),
  ask("Pastes", "strength ~ 1 + (1 | batch/cask)",
      data.frame(batch = c("A", "A", "Q"), cask = c("b", "x", "a"))),
  ask("cake", "angle ~ recipe * temp + (1 | recipe:replicate)",
      data.frame(recipe = c("C", "A", "B"), temp = c(180, 230, 200), replicate = c("2", "7", "99")))
)
write_json(list(lme4 = as.character(packageVersion("lme4")), cases = cases), "predictions_lme4.json",
           digits = NA, auto_unbox = TRUE, dataframe = "columns")
