# Values that R gives to expressions of formulas; tests/design/test_expressions.py holds ours against them.
# Rscript expressions.R > expressions.json
suppressMessages({library(jsonlite); library(splines)})
d <- data.frame(x = c(-1.5, -0.25, 0.5, 1.25, 2, 3.75, 4.5, 6), z = c(1, 2.5, 3, 4.75, 5.5, 7, 8.25, 9.5),
                k = c(0, 1, 2, 3, 4, 5, 6, 7), b = c(TRUE, FALSE, TRUE, TRUE, FALSE, FALSE, TRUE, FALSE),
                f = factor(c("u", "v", "w", "u", "v", "w", "u", "v")))
expressions <- c(
  "-x^2", "-x**2", "10 + -x^2", "-2^z", "2^-z", "2^3^2 + x", "z^x^2", "-x^-2", "(-x)^2", "- x * z", "-x + z", "+x", "--x",
  "-(x - 1)^2", "exp(-x^2/2)", "exp(-(x - 5)^2/8)", "exp(-((x - 3)/2)^2)", "x - 5^2", "(x - 5)^2", "x^2/(1 + x^2)",
  "x/z/2", "x - z - 1", "x %% 3", "-x %% 3", "x %/% 2", "2 * x %% 3", "z * x %/% 2", "x * 1e-3", "x + 5.", "x * .5e1", "pi * x",
  "x > 1", "x > 1 & z < 6", "x > 1 | z < 3", "!(x > 1)", "!x > 1", "x >= 0.5 & !b", "x + 1 > z - 2", "b + 1", "b * x", "-b", "b + b",
  "k == 2 | k == 3 & b", "f == 'u'", "f != 'u'", "f %in% c('u', 'w')", "k %in% c(1, 3, 5)", "(x > 1) * z", "(x > 1) + (z > 3)",
  "log(z, 2)", "log(z, base = 10)", "log(z)", "log1p(z)", "sqrt(z)", "abs(x)", "round(x)", "round(z / 3, 1)", "floor(x)", "ceiling(x)",
  "pmin(x, z)", "pmax(x, 1)", "ifelse(x > 1, x, z)", "ifelse(b, 1, -1)", "x - mean(x)", "(x - mean(x))/sd(x)", "x/max(x)", "x - median(x)",
  "x - quantile(x, 0.3)", "z/sum(z)", "var(x) + z", "atan(x)", "sign(x)", "tan(x)^2", "I(x)^2", "exp(x)^2",
  "scale(x)", "scale(x, scale = FALSE)", "scale(x, center = FALSE)", "poly(x, 2)", "poly(z, 3)", "poly(x, 2, raw = TRUE)",
  "bs(x, df = 5)", "bs(x, knots = c(0, 3))", "bs(x, degree = 2, df = 3)", "bs(x, df = 6, intercept = TRUE)", "bs(x)",
  "ns(x, df = 3)", "ns(x, knots = c(0, 3))", "ns(x)", "ns(x, df = 3, intercept = TRUE)", "ns(z, knots = 4, Boundary.knots = c(2, 8))"
)
value <- function(text) {
  v <- eval(parse(text = text), d)
  list(logical = is.logical(v), values = unname(unclass(as.matrix(v))) * 1)
}
cat(toJSON(list(version = paste(R.version$major, R.version$minor, sep = "."), data = d,
                answers = setNames(lapply(expressions, value), expressions)), digits = 17, auto_unbox = TRUE))
