# Times lme4 on one case in a process of its own: Rscript peers.R CASE DIRECTORY FORMULA GROUP
# Prints the line that worker.py prints. Exit code 3: lme4 is absent.
arguments <- commandArgs(trailingOnly = TRUE)
if (!suppressMessages(suppressWarnings(require(lme4, quietly = TRUE)))) quit(status = 3)
case <- arguments[1]; directory <- arguments[2]; model <- as.formula(arguments[3]); group <- arguments[4]

read_data <- function() {
  columns <- read.delim(file.path(directory, "columns.tsv"), header = FALSE, col.names = c("name", "kind"))
  out <- list()
  for (i in seq_len(nrow(columns))) {
    name <- columns$name[i]; kind <- columns$kind[i]
    path <- file.path(directory, paste0(name, ".bin")); size <- file.size(path)
    if (kind == "float") out[[name]] <- readBin(path, "double", n = size / 8)
    else out[[name]] <- readBin(path, "integer", n = size / 4)
    if (kind == "factor") {
      levels <- readLines(file.path(directory, paste0(name, ".levels")))
      out[[name]] <- factor(levels[out[[name]]], levels = levels)
    }
  }
  as.data.frame(out)
}
memory <- function(field) {
  lines <- tryCatch(readLines("/proc/self/status"), error = function(e) character(), warning = function(w) character())
  line <- grep(paste0("^", field, ":"), lines, value = TRUE)
  if (length(line)) as.numeric(gsub("[^0-9]", "", line)) / 1024 else NA
}
reset_peak <- function() invisible(try(cat("5", file = "/proc/self/clear_refs"), silent = TRUE))
timed <- function(call, times = 1) {
  start <- proc.time()
  for (i in seq_len(times)) result <- call()
  used <- (proc.time() - start) / times
  list(result, c(used[["user.self"]] + used[["sys.self"]], used[["elapsed"]]))
}

data <- read_data()
options(warn = -1)
set.seed(1)
small <- data.frame(x = rnorm(150), g = rep(1:30, 5)); small$y <- small$x + rnorm(30)[small$g] + rnorm(150)
invisible(lmer(y ~ x + (1 | g), small))
call <- function() suppressMessages(lmer(model, data))
if (case == "refits") {
  size <- file.size(file.path(directory, "Y.f64")) / 8
  Y <- matrix(readBin(file.path(directory, "Y.f64"), "double", n = size), nrow = nrow(data))
  first <- call()
  call <- function() vapply(seq_len(ncol(Y)), function(j) sigma(suppressMessages(refit(first, Y[, j]))), 0)
}
invisible(gc()); before <- memory("VmRSS"); reset_peak()
out <- timed(call); time <- out[[2]]; runs <- 1
peak <- memory("VmHWM")
if (time[1] <= 5 && case != "refits") {
  # the clock of proc.time ticks in ms: short calls are timed in batches
  batch <- if (time[1] < 0.1) 8 else 1
  runs <- if (time[1] < 0.1) 5 else if (time[1] < 1) 7 else 3
  time <- apply(replicate(runs, timed(call, batch)[[2]]), 1, median)
  runs <- runs * batch
}
sigma_hat <- sd_hat <- criterion <- NaN
if (case == "refits") sigma_hat <- mean(out[[1]])
if (case != "refits") {
  fit <- out[[1]]; table <- as.data.frame(VarCorr(fit))
  names <- c(group, "cask:batch"[group == "sample" & case == "Pastes"])
  sigma_hat <- sigma(fit); sd_hat <- table$sdcor[table$grp %in% names][1]; criterion <- REMLcrit(fit)
}
cat("RESULT", sprintf("%.12g", c(time, runs, peak - before, peak, sigma_hat, sd_hat, criterion)),
    as.character(packageVersion("lme4")), sep = "\t")
cat("\n")
if (case != "refits") for (text in unlist(fit@optinfo$conv$lme4$messages)) cat("NOTE\t", text, "\n", sep = "")
