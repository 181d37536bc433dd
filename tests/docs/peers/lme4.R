# What lme4 and the packages around it say of sleepstudy and Oats: Rscript lme4.R writes lme4.json.
suppressMessages({
  library(lmerTest)
  library(emmeans)
  library(jsonlite)
})
data(sleepstudy, package = "lme4")
data(Oats, package = "nlme")
Oats$Block <- factor(Oats$Block, ordered = FALSE)
Oats$nitro <- factor(Oats$nitro)

fit <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy)
smaller <- lmer(Reaction ~ 1 + (Days | Subject), sleepstudy)
vc <- as.data.frame(VarCorr(fit))
blups <- ranef(fit, condVar = TRUE)$Subject
satterthwaite <- coef(summary(fit))
kr <- coef(summary(fit, ddf = "Kenward-Roger"))
profile <- suppressMessages(confint(fit, oldNames = FALSE))
lrt <- suppressMessages(anova(smaller, fit))
oats <- lmer(yield ~ Variety * nitro + (1 | Block / Variety), Oats)
table <- anova(oats)
means <- suppressMessages(emmeans(oats, "nitro"))
pairs <- as.data.frame(pairs(means))

singular <- suppressMessages(lmer(Yield ~ 1 + (1 | Batch), lme4::Dyestuff2))

numbers <- list(
  "REML criterion" = REMLcrit(fit),
  "AIC" = AIC(fit),
  "sd, Intercept" = vc$sdcor[1],
  "sd, Days" = vc$sdcor[2],
  "correlation" = vc$sdcor[3],
  "sigma" = sigma(fit),
  "Days" = fixef(fit)[["Days"]],
  "Days, standard error" = kr["Days", "Std. Error"],
  "Days, df (lmerTest)" = satterthwaite["Days", "df"],
  "Days, df (Kenward-Roger)" = kr["Days", "df"],
  "Days of subject 308" = blups["308", "Days"],
  "its conditional sd" = sqrt(attr(blups, "postVar")[2, 2, 1]),
  "day 10 of subject 308" = predict(fit, data.frame(Days = 10, Subject = "308"))[[1]],
  "sd, Days: profile, low" = profile["sd_Days|Subject", 1],
  "sd, Days: profile, high" = profile["sd_Days|Subject", 2],
  "Days, likelihood ratio" = lrt$Chisq[2],
  "nitro in Oats, F" = table["nitro", "F value"],
  "nitro in Oats, mean at 0.6" = as.data.frame(means)$emmean[4],
  "its standard error" = as.data.frame(means)$SE[4],
  "0 against 0.2, Tukey p" = pairs$p.value[1],
  "Dyestuff2, sd of batches" = as.data.frame(VarCorr(singular))$sdcor[1]
)
version <- function(name) paste(name, as.character(packageVersion(name)))
packages <- paste(version("lme4"), version("lmerTest"), version("emmeans"), version("pbkrtest"), sep = ", ")
write_json(list(package = packages, numbers = numbers), "lme4.json", auto_unbox = TRUE, digits = I(12), pretty = TRUE)
