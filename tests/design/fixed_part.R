# Writes fixed_part.json: names and columns of R's model.matrix for algebra of terms. Needs jsonlite.
library(jsonlite)

set.seed(9)
n <- 36
data <- data.frame(
  a = rep(c("p", "q"), 18), b = rep(c("u", "v", "w"), each = 12), c = sample(c("i", "j", "k"), n, TRUE),
  x = round(rnorm(n), 3), z = round(rnorm(n), 3)
)
coded <- data
for (name in c("a", "b", "c")) coded[[name]] <- factor(data[[name]])
sides <- c(
  "(a+b+c)^2", "(a+b+c)^3", "(a+b+c)^2 - a:b", "(a+x)^2", "(x+z)^2", "(x+z)^3", "(x+x)^2", "((a+b)^2)",
  "a*b-a", "a*b-b", "a*b-a-b", "a*b-a:b", "a*x-x", "a*x-a", "a*b*c-a:b:c", "a*b*c-a", "a*b-1", "a*b-a-1",
  "a%in%b", "a%in%b-1", "b%in%a+a", "x%in%a", "a+b%in%a", "x%in%z", "a%in%b%in%c",
  "a/b", "a/b/c", "a/x", "x/a", "x/z", "a/(b+x)", "(a+b)/c", "(a+b)/x", "a/b-a", "a/b-1", "0+a/b", "0+a/x",
  "a:b+a", "a:b", "a:b:c", "a:x+b:x", "x:a+a", "b+a:b+x", "a:(b+x)", "(a+b):c", "(a+b)*(c+x)", "a*(x+z)-a",
  "x+1", "x-1", "x+0", "0+x+1", "-1+x", "x-1+1", "x+a-x", "a+b+a", "0+a+b", "0+b+a", "a+b-1", "0+x+a", "0+x+a:b",
  "x^2", "x**2", "(x)^2", "I(x)^2", "x+x^2", "(a+b)^2*x", "x*(a+b)^2", "a*b^2", "-x", "x:x", "a:a", "x*x", "x-z"
)
matrices <- lapply(sides, function(side) {
  m <- model.matrix(as.formula(paste("~", side)), coded)
  list(names = I(colnames(m)), rows = unname(unclass(m)[, , drop = FALSE]))
})
names(matrices) <- sides
refused <- sapply(c("2*x", "x*2", "x+2", "2:x", "x/2", "3*a", "(a+b)^1"), function(side) {
  answer <- try(model.matrix(as.formula(paste("~", side)), coded), silent = TRUE)
  if (inherits(answer, "try-error")) conditionMessage(attr(answer, "condition")) else paste(colnames(answer), collapse = " ")
})
connection <- gzfile("fixed_part.json.gz")
writeLines(toJSON(list(data = data, matrices = matrices, refused = as.list(refused)), auto_unbox = TRUE, digits = 15),
           connection)
close(connection)
