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
seconds <- function(call) { start <- proc.time()[["elapsed"]]; result <- call(); list(result, proc.time()[["elapsed"]] - start) }

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
  call <- function() for (j in seq_len(ncol(Y))) suppressMessages(refit(first, Y[, j]))
}
invisible(gc()); before <- memory("VmRSS"); reset_peak()
out <- seconds(call); time <- out[[2]]; runs <- 1
peak <- memory("VmHWM")
if (time <= 5 && case != "refits") {
  runs <- if (time < 0.1) 40 else if (time < 1) 7 else 3
  # the clock of proc.time ticks in ms: short calls are timed together
  if (time < 0.1) time <- median(replicate(5, seconds(function() for (i in 1:8) call())[[2]] / 8))
  else time <- median(replicate(runs, seconds(call)[[2]]))
}
sigma_hat <- sd_hat <- criterion <- NaN
if (case != "refits") {
  fit <- out[[1]]; table <- as.data.frame(VarCorr(fit))
  names <- c(group, "cask:batch"[group == "sample" & case == "Pastes"])
  sigma_hat <- sigma(fit); sd_hat <- table$sdcor[table$grp %in% names][1]; criterion <- REMLcrit(fit)
}
cat("RESULT", sprintf("%.12g", c(time, runs, peak - before, peak, sigma_hat, sd_hat, criterion)),
    as.character(packageVersion("lme4")), sep = "\t")
cat("\n")
if (case != "refits") for (text in unlist(fit@optinfo$conv$lme4$messages)) cat("NOTE\t", text, "\n", sep = "")
