# Rscript influence_lme4.R > influence_lme4.json (lme4 1.1-31, car 3.1-1)
suppressMessages({library(lme4); library(car); library(jsonlite)})
ctl <- lmerControl(optimizer = "nloptwrap", optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-14, maxeval = 20000))
of <- function(m) list(theta = unname(getME(m, "theta")), hat = unname(hatvalues(m)),
                       pearson = unname(residuals(m, type = "pearson")),
                       scaled = unname(residuals(m, type = "pearson", scaled = TRUE)),
                       cooks = unname(cooks.distance(m)), rstudent = unname(rstudent(m)))
deleted <- function(m, g) {
  i <- influence(m, groups = g)
  list(levels = rownames(as.matrix(dfbeta(i))), dfbeta = unname(as.matrix(dfbeta(i))),
       dfbetas = tryCatch(unname(dfbetas(i)), error = function(e) NULL), cooks = unname(cooks.distance(i)))
}
w <- rep(c(0.5, 1, 2, 1.5), length.out = 180)
sleep <- lmer(Reaction ~ Days + (Days | Subject), sleepstudy, control = ctl)
crossed <- lmer(diameter ~ 1 + (1 | plate) + (1 | sample), Penicillin, control = ctl)
weighted <- lmer(Reaction ~ Days + (1 | Subject), sleepstudy, weights = w, control = ctl)
sleepstudy$half <- factor(ifelse(sleepstudy$Days > 4, "late", "early"))
both <- lmer(Reaction ~ Days * half + (1 | Subject), sleepstudy, control = ctl)
data(Oats, package = "nlme")
O <- Oats[-c(1, 5, 20, 33, 34, 60), ]
O$Block <- factor(as.character(O$Block)); O$nf <- factor(O$nitro)
oats <- lmer(yield ~ Variety + nf + (1 | Block), O, control = ctl)
pca <- rePCA(sleep)$Subject
postvar <- attr(ranef(sleep, condVar = TRUE)$Subject, "postVar")
writeLines(toJSON(list(
  sleepstudy = of(sleep), crossed = of(crossed), weighted = of(weighted),
  deleted = list(weighted = deleted(weighted, "Subject"), crossed = deleted(crossed, "sample"),
                 sleepstudy = deleted(sleep, "Subject")),
  vif = list(names = names(vif(both)), values = unname(vif(both))),
  gvif = list(names = rownames(vif(oats)), values = unname(vif(oats))),
  repca = list(sdev = pca$sdev, rotation = unname(pca$rotation)),
  conditional_sd = sqrt(cbind(postvar[1, 1, ], postvar[2, 2, ])),
  coef = unname(as.matrix(coef(sleep)$Subject))), digits = 12))
