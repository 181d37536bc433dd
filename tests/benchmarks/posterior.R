# Samples one posterior with rstanarm: Rscript posterior.R DIRECTORY FORMULA CHAINS DRAWS TUNE
# Stores the draws in DIRECTORY/draws.f64 (draws x chains x parameters, R's order) and their names in draws.names, and
# prints the line that posterior_worker.py prints. Exit code 3: rstanarm is absent.
arguments <- commandArgs(trailingOnly = TRUE)
if (!suppressMessages(suppressWarnings(require(rstanarm, quietly = TRUE)))) quit(status = 3)
directory <- arguments[1]; model <- as.formula(arguments[2])
chains <- as.integer(arguments[3]); draws <- as.integer(arguments[4]); tune <- as.integer(arguments[5])
# peers.R is a program; only its functions are wanted here.
for (line in parse("peers.R")) {
  if (identical(line[[1]], as.name("<-")) && is.call(line[[3]]) && identical(line[[3]][[1]], as.name("function"))) {
    eval(line)
  }
}
options(warn = -1)
data <- read_data()
sample_model <- function(draws, tune) {
  stan_lmer(model, data = data, chains = chains, iter = draws + tune, warmup = tune, cores = 1, refresh = 0, seed = 1)
}
invisible(suppressMessages(sample_model(5, 5)))
invisible(gc()); before <- memory("VmRSS"); reset_peak()
out <- timed(function() suppressMessages(sample_model(draws, tune))); fit <- out[[1]]; time <- out[[2]]
peak <- memory("VmHWM")
values <- as.array(fit, pars = c(names(fixef(fit)), "sigma"), regex_pars = "^Sigma\\[")
writeLines(dimnames(values)[[3]], file.path(directory, "draws.names"))
writeBin(as.vector(values), file.path(directory, "draws.f64"))
diverging <- sapply(rstan::get_sampler_params(fit$stanfit, inc_warmup = FALSE), function(x) sum(x[, "divergent__"]))
fields <- c(chains = chains, draws = draws, tune = tune, seconds = time[1], wall = time[2], runs = 1,
            compile_cold = 0, compile_warm = 0, sampling = time[1], mb = peak - before, peak_mb = peak,
            divergences = sum(diverging))
cat("RESULT", paste0(names(fields), "=", sprintf("%.12g", fields)),
    paste0("version=rstanarm ", packageVersion("rstanarm")), sep = "\t")
cat("\n")
