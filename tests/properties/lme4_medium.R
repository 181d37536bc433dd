# Rscript lme4_medium.R FOLDER: fits the cases that test_lme4_medium.py has written there, writes lme4_medium.json.
suppressMessages(library(lme4))
folder <- commandArgs(TRUE)[1]
index <- jsonlite::fromJSON(file.path(folder, "index.json"))
controls <- list(
  lmerControl(optimizer = "nloptwrap", calc.derivs = FALSE,
              optCtrl = list(algorithm = "NLOPT_LN_BOBYQA", xtol_abs = 1e-12, xtol_rel = 1e-14,
                             ftol_abs = 1e-14, ftol_rel = 1e-16, maxeval = 20000)),
  lmerControl(optimizer = "bobyqa", calc.derivs = FALSE,
              optCtrl = list(rhobeg = 0.02, rhoend = 1e-10, maxfun = 20000)))

describe <- function(fit) {
  b <- ranef(fit, condVar = TRUE)
  effects <- lapply(b, function(table) {
    v <- attr(table, "postVar")
    v <- if (is.list(v)) v[[1]] else v
    i <- unique(round(seq(1, nrow(table), length.out = 4)))
    data.frame(level = rownames(table)[i], value = table[i, 1], variance = v[1, 1, i])
  })
  vc <- as.data.frame(VarCorr(fit))
  vc <- vc[vc$grp != "Residual", c("grp", "var1", "var2", "vcov")]
  vc$var2[is.na(vc$var2)] <- ""
  list(criterion = as.numeric(-2 * logLik(fit)), theta = as.numeric(getME(fit, "theta")), sigma = sigma(fit),
       beta = as.numeric(fixef(fit)), vcov = as.numeric(vcov(fit)), singular = isSingular(fit, tol = 1e-5),
       varcorr = vc, ranef = effects)
}

out <- list()
for (i in seq_len(nrow(index))) {
  data <- read.csv(file.path(folder, index$file[i]))
  for (f in intersect(c("a", "b", "c", "g", "h", "s", "d", "dept"), names(data))) data[[f]] <- factor(data[[f]])
  for (reml in c(TRUE, FALSE)) {
    fits <- list()
    start <- NULL
    for (control in controls) {
      args <- list(as.formula(index$formula[i]), data = data, REML = reml, control = control, start = start)
      if (index$weighted[i]) args$weights <- data$w
      fit <- suppressMessages(suppressWarnings(do.call(lmer, args)))
      start <- getME(fit, "theta")
      fits <- c(fits, fit)
    }
    values <- sapply(fits, function(f) -2 * as.numeric(logLik(f)))
    out[[index$case[i]]][[if (reml) "reml" else "ml"]] <- describe(fits[[which.min(values)]])
    message(index$case[i], " ", diff(values))
  }
}
writeLines(jsonlite::toJSON(out, digits = NA, auto_unbox = TRUE), file.path(folder, "lme4_medium.json"))
