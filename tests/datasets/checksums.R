# Writes checksums.json from the data sets as lme4, nlme and MASS ship them:
# Rscript tests/datasets/checksums.R  (lme4 1.1-31, nlme 3.1-162, MASS 7.3)
# For a factor x stands for its integer codes, so that the order of levels and of rows is covered.
library(jsonlite)
suppressMessages(library(lme4))

sets <- list(
  lme4 = c("Dyestuff", "Dyestuff2", "sleepstudy", "Penicillin", "Pastes", "cake", "InstEval"),
  nlme = c("Rail", "Oats", "Machines", "Orthodont", "ergoStool"),
  MASS = "coop"
)

checksum <- function(column) {
  x <- as.numeric(column)
  out <- list(
    sum = sum(x),
    weighted = sum(x * seq_along(x)),
    squares = sum(x^2),
    ordered = is.ordered(column)
  )
  if (is.factor(column)) {
    out$n_levels <- nlevels(column)
    out$ends <- c(levels(column)[1], levels(column)[nlevels(column)])
  }
  out
}

result <- list()
for (package in names(sets)) {
  for (name in sets[[package]]) {
    env <- new.env()
    data(list = name, package = package, envir = env)
    frame <- as.data.frame(env[[name]])
    result[[name]] <- list(rows = nrow(frame), columns = lapply(as.list(frame), checksum))
  }
}
path <- file.path(dirname(sub("--file=", "", grep("--file=", commandArgs(), value = TRUE))), "checksums.json")
writeLines(toJSON(result, auto_unbox = TRUE, digits = I(17), pretty = TRUE), path)
