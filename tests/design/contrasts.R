# Writes contrasts.json: R's contrast matrices and the columns they give in model.matrix. Needs MASS and jsonlite.
library(MASS)
library(jsonlite)

described <- function(m) list(rows = unname(as.matrix(m)), names = I(as.character(colnames(m))))
matrices <- lapply(2:7, function(k) {
  levels <- letters[seq_len(k)]
  out <- list(
    treatment = contr.treatment(levels), sum = contr.sum(levels), helmert = contr.helmert(levels),
    poly = contr.poly(levels), diff = contr.sdif(levels)
  )
  for (i in seq_len(k)) out[[paste0("treatment_", levels[i])]] <- contr.treatment(levels, base = i)
  lapply(out, described)
})
names(matrices) <- 2:7

set.seed(5)
n <- 20
data <- data.frame(f = sample(c("lo", "mid", "hi", "top"), n, TRUE), b = rep(c(TRUE, FALSE), 10), x = round(rnorm(n), 3))
coded <- data
coded$f <- factor(data$f, levels = c("lo", "mid", "hi", "top"))
own <- matrix(c(-1, -1, 1, 1, 0, -1, 0, 1), 4, dimnames = list(levels(coded$f), c("late", "edge")))
kinds <- list(
  diff = contr.sdif(levels(coded$f)), treatment_hi = contr.treatment(levels(coded$f), base = 3),
  helmert = contr.helmert(4), sum = contr.sum(4), poly = contr.poly(4), own = own
)
columns <- lapply(kinds, function(contrast) {
  coded$f <- factor(coded$f)
  contrasts(coded$f, ncol(contrast)) <- contrast
  lapply(list("~ f" = ~f, "~ f * x" = ~ f * x, "~ x + x:f" = ~ x + x:f, "~ 0 + f" = ~ 0 + f), function(side) {
    described(model.matrix(side, coded))
  })
})
writeLines(
  toJSON(list(matrices = matrices, data = data, own = own, columns = columns), digits = NA), "contrasts.json"
)
