# What nlme says of Orthodont and Oats: Rscript nlme.R writes nlme.json.
library(nlme)
library(jsonlite)

fit <- lme(distance ~ age, data = Orthodont, random = ~ age | Subject)
ml <- update(fit, method = "ML")
vc <- VarCorr(fit)
table <- summary(fit)$tTable
wald <- intervals(fit)
oats <- lme(yield ~ Variety * factor(nitro), data = Oats, random = ~ 1 | Block / Variety)
boys <- lme(distance ~ age * Sex, data = Orthodont, random = ~ 1 | Subject, weights = varIdent(form = ~ 1 | Sex))
serial <- gls(distance ~ age * Sex, data = Orthodont, correlation = corAR1(form = ~ 1 | Subject))

data(Dyestuff2, package = "lme4")
zero <- lme(Yield ~ 1, data = Dyestuff2, random = ~ 1 | Batch)

numbers <- list(
  "log likelihood" = as.numeric(logLik(fit)),
  "AIC" = AIC(fit),
  "BIC" = BIC(fit),
  "sd, Intercept" = as.numeric(vc["(Intercept)", "StdDev"]),
  "sd, age" = as.numeric(vc["age", "StdDev"]),
  "correlation" = as.numeric(vc["age", "Corr"]),
  "sigma" = sigma(fit),
  "age" = fixef(fit)[["age"]],
  "age, standard error" = table["age", "Std.Error"],
  "age, df" = table["age", "DF"],
  "age, standard error by ML" = summary(ml)$tTable["age", "Std.Error"],
  "age of M13" = ranef(fit)["M13", "age"],
  "age 15 of M13" = predict(fit, data.frame(age = 15, Subject = "M13"))[[1]],
  "sd, age: low" = wald$reStruct$Subject["sd(age)", "lower"],
  "sd, age: high" = wald$reStruct$Subject["sd(age)", "upper"],
  "nitro in Oats, F" = anova(oats)["factor(nitro)", "F-value"],
  "nitro in Oats, df" = anova(oats)["factor(nitro)", "denDF"],
  "Variety in Oats, df" = anova(oats)["Variety", "denDF"],
  "varIdent: girls over boys" = coef(boys$modelStruct$varStruct, unconstrained = FALSE)[["Female"]],
  "corAR1: Phi" = coef(serial$modelStruct$corStruct, unconstrained = FALSE)[[1]],
  "corAR1: log likelihood" = as.numeric(logLik(serial)),
  "Dyestuff2, sd of batches" = as.numeric(VarCorr(zero)["(Intercept)", "StdDev"])
)
package <- paste("nlme", as.character(packageVersion("nlme")))
write_json(list(package = package, numbers = numbers), "nlme.json", auto_unbox = TRUE, digits = I(12), pretty = TRUE)
