// The balanced one-way model y_jk = mu + b_j + e_jk: J groups of n rows. The data enter by the group means alone and
// by two sums of squares, S_B (J - 1 degrees of freedom, expectation sigma^2 + n tau^2 each) and S_W (J (n - 1)).

function summariseLevels(data) {
  const J = data.y.length, n = data.y[0].length, means = data.y.map(mean), centre = mean(means);
  return {
    J, n, means, centre,
    between: n * means.reduce((sum, m) => sum + (m - centre) ** 2, 0),
    within: data.y.reduce((sum, row, j) => sum + row.reduce((s, v) => s + (v - means[j]) ** 2, 0), 0),
    df: J * (n - 1),
  };
}

// The REML criterion, -2 log restricted likelihood with its constants, at a between-group sd and a residual sd.
function criterionLevels(s, tau, sigma) {
  const v = sigma * sigma, lambda = v + s.n * tau * tau, N = s.J * s.n;
  return (
    (N - 1) * LOG_2PI + Math.log(N) +
    s.df * Math.log(v) + (s.J - 1) * Math.log(lambda) + s.within / v + s.between / lambda
  );
}

// In closed form: the analysis of variance, or one pooled variance where that would make tau^2 negative.
function remlLevels(s) {
  const msb = s.between / (s.J - 1), msw = s.within / s.df;
  const zero = msb <= msw;
  const level = zero ? 0 : Math.sqrt((msb - msw) / s.n);
  const sigma = zero ? Math.sqrt((s.between + s.within) / (s.J - 1 + s.df)) : Math.sqrt(msw);
  return { level, sigma, singular: zero, f: msb / msw, criterion: criterionLevels(s, level, sigma) };
}

// The criterion at tau, at the best residual sd there.
function profileLevels(s, tau) {
  const low = 0.5 * Math.log(s.within / (s.df + s.J - 1)) - 1, high = 0.5 * Math.log((s.within + s.between) / s.df) + 1;
  return minimum1((u) => criterionLevels(s, tau, Math.exp(u)), low, high).value;
}

// Probability that REML says zero at true sds: the mean squares' ratio over its expectation has an F distribution.
function zeroLevels(J, n, level, sigma) {
  return fBelow(sigma ** 2 / (sigma ** 2 + n * level ** 2), J - 1, J * (n - 1));
}

const LEVEL_NODES = [64, 40], LEVEL_DEPTH = 24;

function analyseLevels(data, prior) {
  const s = summariseLevels(data), reml = remlLevels(s), sdY = spread(data);
  const scale = { level: prior.scale * sdY, sigma: sdY };
  const logPrior = PRIORS[prior.family].log(scale.level), logSigma = HALF_T(3, scale.sigma);
  const logDensity = ([tau, sigma]) => logPrior(tau) + logSigma(sigma) - 0.5 * criterionLevels(s, tau, sigma);
  const axes = [levelAxis(prior, scale.level, reml.sigma / Math.sqrt(s.n)), sigmaAxis(reml.sigma, s.df)];
  const top = findBox(axes, logDensity, startsOf(axes, [reml.level], reml.sigma), LEVEL_DEPTH);
  const nodes = axes.map((a, k) => nodesOn(a, LEVEL_NODES[k]));
  const mass = LEVEL_NODES.map((count) => new Float64Array(count));
  let total = 0, shrink = 0;
  nodes[0].value.forEach((tau, i) => {
    nodes[1].value.forEach((sigma, k) => {
      const p = Math.exp(logDensity([tau, sigma]) - top + nodes[0].logWeight[i] + nodes[1].logWeight[k]);
      mass[0][i] += p;
      mass[1][k] += p;
      total += p;
      shrink += (p * s.n * tau * tau) / (sigma * sigma + s.n * tau * tau);
    });
  });
  shrink /= total;
  const byReml = (s.n * reml.level ** 2) / (reml.sigma ** 2 + s.n * reml.level ** 2);
  return {
    summary: s, reml, scale, spread: sdY,
    posterior: {
      level: new Marginal(axes[0], nodes[0], mass[0], logPrior),
      sigma: new Marginal(axes[1], nodes[1], mass[1], logSigma),
    },
    priors: { level: (v) => Math.exp(logPrior(v)) },
    profile: { level: (v) => profileLevels(s, v) - reml.criterion },
    shrinkage: { reml: byReml, posterior: shrink },
    groups: s.means.map((m) => ({
      own: m, reml: s.centre + byReml * (m - s.centre), posterior: s.centre + shrink * (m - s.centre),
    })),
    population: s.centre,
  };
}

// Axis of a group-level sd: linear near zero, logarithmic beyond the smaller of the prior's and the data's scale.
function levelAxis(prior, scale, resolution) {
  const own = prior.family === "flat" ? Infinity : prior.family === "inverse-gamma" ? 0.1 * scale : scale;
  const free = { in: (z) => Math.min(Math.abs(z) + 1e-9, 32), out: (t) => t };
  return { coordinate: sinhCoordinate(Math.min(own, resolution)), lower: 1e-9, upper: 32, free, step: 0.5 };
}

function sigmaAxis(sigma, df) {
  const u = Math.log(sigma);
  return { coordinate: logCoordinate, lower: u - 6, upper: u + 9, free: { in: (z) => u + z, out: (t) => t - u }, step: 2 / Math.sqrt(2 * df) };
}

// Where modes are looked for: near the REML estimates, and where the groups hardly differ.
function startsOf(axes, levels, sigma, corr) {
  return [1, 0].map((share) => [
    ...levels.map((sd, k) => share * axes[k].coordinate.back(sd) + 0.3),
    ...(corr === undefined ? [] : [0.8 * share * (corr || 0)]),
    Math.log(sigma) + 0.1 * (1 - share),
  ]);
}
