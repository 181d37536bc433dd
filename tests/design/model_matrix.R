# Writes model_matrix.json.gz: model.matrix(~ lhs) of R for the left sides below.
library(jsonlite)

set.seed(3)
n <- 24
data <- data.frame(
  x = round(rnorm(n), 3),
  z = round(exp(rnorm(n)), 3),
  f = rep(c("a", "b", "c"), 8),
  k = rep(c("u", "v", "w", "t"), each = 6),
  o = rep(c("lo", "mid", "hi", "top"), 6)[sample(n)],
  b = rep(c(TRUE, FALSE, FALSE), 8)[sample(n)],
  s = sample(c("q", "p", "r"), n, TRUE),
  m = rep(1:6, 4)
)
coded <- data
coded$f <- factor(data$f, levels = c("c", "a", "b"))
coded$k <- factor(data$k, levels = c("u", "v", "w", "t"))
coded$o <- ordered(data$o, levels = c("lo", "mid", "hi", "top"))
coded$s <- factor(data$s)

sides <- c(
  "1", "x", "0 + x", "x - 1", "-1 + x", "f", "0 + f", "f - 1", "f:x", "f*x", "0 + f:x", "0 + f*x", "x + f:x",
  "f + f:x", "f/x", "0 + f/x", "f:k", "f*k", "0 + f:k", "k + f:k", "k:f", "f/k", "f*k*x", "f:k:x", "0 + f:k:x",
  "f*x*z", "f + k", "0 + f + k", "k + f + x", "f %in% k", "k + f %in% k", "(x + z + f)^2", "x*f*z - x:f:z", "f*x - x",
  "o", "0 + o", "o*x", "o:f", "f*o", "b", "0 + b", "b*x", "0 + b:x", "b:f", "b:s", "b:o", "I(b*2)", "s", "s:x",
  "I(x^2)", "I(x*z)", "I(-x)", "I(x > 0)", "x:z", "x*z", "log(z)", "log(z + 1)", "sqrt(z) + x", "exp(x)", "log2(z)",
  "log10(z)", "abs(x)", "sin(x)", "poly(x, 2)", "poly(z, 3)", "poly(x, 2)*f", "scale(x)", "scale(x, scale = FALSE)",
  "factor(m)", "factor(m)*x", "as.factor(m)", "factor(f)", "x - x"
)
matrices <- lapply(sides, function(side) {
  m <- model.matrix(as.formula(paste("~", side)), coded)
  list(names = I(colnames(m)), rows = unname(unclass(m)))
})
names(matrices) <- sides
connection <- gzfile("model_matrix.json.gz")
writeLines(toJSON(list(data = data, matrices = matrices), digits = 15), connection)
close(connection)
