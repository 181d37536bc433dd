# Writes lint_lme4.json: how lme4 reads the formulas of test_lint.py. Needs lme4 and jsonlite.
suppressMessages(library(lme4))
library(jsonlite)

set.seed(1)
n <- 24
data <- data.frame(
  y = rnorm(n), x = rnorm(n), z = exp(rnorm(n)),
  g = rep(letters[1:6], each = 4), h = rep(c("p", "q", "r", "s"), 6),
  a = rep(c("A", "B"), each = 12), d = rep(letters[1:6], each = 4),
  f = factor(rep(c("c", "a", "b"), 8), levels = c("c", "a", "b")),
  o = ordered(rep(c("lo", "mid", "hi"), 8), levels = c("lo", "mid", "hi")),
  b = rep(c(TRUE, FALSE), 12), m = rep(1:4, 6)
)
formulas <- c(
  "y ~ x + (x | g)", "y ~ x + (x || g)", "y ~ f + (f || g)", "y ~ b + (b || g)", "y ~ x + (0 + f || g)",
  "y ~ x + (poly(x, 2) || g)", "y ~ x | g", "y ~ 1 + (1 | a/d)", "y ~ 1 + (1 | a:d)", "y ~ 1 + (1 | a*d)",
  "y ~ 1 + (1 | a + d)", "y ~ x + (x - 1 | g)", "y ~ x + (x + z - 1 | g)", "y ~ x + (0 + x | g)",
  "y ~ x + (1 | g) + (0 + x | g)", "y ~ x + (1 | g) + (x | g)", "y ~ 1 + (1 | g) + (1 | g)",
  "y ~ f + (1 | g) + (0 + f | g)", "y ~ x^2 + (1 | g)", "y ~ x**2 + (1 | g)", "y ~ (x + z)^2 + (1 | g)",
  "y ~ (x + z)**2 + (1 | g)", "y ~ I(x^2) + (1 | g)", "y ~ I(x**2) + (1 | g)", "y ~ {x^2} + (1 | g)",
  "y ~ x %in% f + (1 | g)", "y ~ x + offset(z) + (1 | g)", "y ~ . + (1 | g)", "y ~ 2*z + (1 | g)",
  "y ~ -x + (1 | g)", "y ~ 1 + us(x | g)", "y ~ 1 + diag(x | g)", "y ~ 1 + cs(x | g)", "y ~ 1 + ar1(x | g)",
  "y ~ 1 + (x | ID | g)", "y ~ 1 + (1 | gr(g))", "z/2 ~ x + (1 | g)", "log(z) ~ x + (1 | g)",
  "y ~ log(z) + (1 | g)", "y ~ sqrt(z) + (1 | g)", "y ~ np.log(z) + (1 | g)", "y ~ center(x) + (1 | g)",
  "y ~ standardize(x) + (1 | g)", "y ~ scale(x) + (1 | g)", "y ~ poly(x, 2) + (1 | g)",
  "y ~ poly(x, 2, raw = True) + (1 | g)", "y ~ poly(x, 2, raw = TRUE) + (1 | g)", "y ~ C(f, Sum) + (1 | g)",
  "y ~ C(f, Treatment('a')) + (1 | g)", "y ~ T(f, 'a') + (1 | g)", "y ~ C(f) + (1 | g)", "y ~ C(m) + (1 | g)",
  "y ~ factor(m) + (1 | g)", "y ~ o + (1 | g)", "y ~ 0 + b + (1 | g)", "y ~ f + (f:x | g)", "y ~ x",
  "y ~ bs(x, df = 4) + (1 | g)"
)
control <- lmerControl(
  check.nobs.vs.nRE = "ignore", check.nobs.vs.nlev = "ignore", check.nlev.gtr.1 = "ignore",
  check.rankX = "ignore"
)
read <- function(text) {
  parsed <- try(suppressWarnings(lFormula(as.formula(text), data, control = control)), silent = TRUE)
  if (inherits(parsed, "try-error")) {
    return(list(error = conditionMessage(attr(parsed, "condition"))))
  }
  blocks <- parsed$reTrms$cnms
  list(
    fixed = I(colnames(parsed$X)), groups = I(names(blocks)), blocks = unname(lapply(blocks, I)),
    levels = I(unname(sapply(parsed$reTrms$flist, nlevels))), parameters = length(parsed$reTrms$theta),
    offset = !is.null(model.offset(parsed$fr)), column2 = if (ncol(parsed$X) > 1) I(unname(parsed$X[, 2])) else NULL
  )
}
facts <- lapply(formulas, read)
names(facts) <- formulas
stored <- list(
  versions = list(lme4 = as.character(packageVersion("lme4")), R = as.character(getRversion())),
  data = data, facts = facts
)
writeLines(toJSON(stored, auto_unbox = TRUE, digits = 15, null = "null"), "lint_lme4.json")
