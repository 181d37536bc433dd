// The balanced random-slope model y_jk = (b0 + u_j) + (b1 + v_j) x_k + e_jk: J groups, the same n centred x in each.
// In the orthonormal columns (1 / sqrt(n), x / sqrt(Sxx)) a group's two coefficients have covariance
// M = sigma^2 I + R G R', R = diag(sqrt(n), sqrt(Sxx)): the data enter by the coefficients' sums of squares and products
// B (J - 1 degrees of freedom) and by the residual sum of squares (J (n - 2)).

function summariseSlopes(data) {
  const J = data.y.length, n = data.x.length, centreX = mean(data.x);
  const x = data.x.map((v) => v - centreX), sxx = x.reduce((sum, v) => sum + v * v, 0);
  const r = [Math.sqrt(n), Math.sqrt(sxx)];
  const coefficients = data.y.map((row) => [mean(row), row.reduce((sum, v, k) => sum + v * x[k], 0) / sxx]);
  const centre = [0, 1].map((i) => mean(coefficients.map((c) => c[i])));
  const product = (i, j) => coefficients.reduce((sum, c) => sum + (c[i] - centre[i]) * (c[j] - centre[j]), 0) * r[i] * r[j];
  const within = data.y.reduce((sum, row, j) => {
    const [level, slope] = coefficients[j];
    return sum + row.reduce((s, v, k) => s + (v - level - slope * x[k]) ** 2, 0);
  }, 0);
  return { J, n, x, centreX, sxx, r, coefficients, centre, B: [product(0, 0), product(0, 1), product(1, 1)], within, df: J * (n - 2) };
}

// The REML criterion at sds, correlation and residual sd; sds those at the mean of x.
function criterionSlopes(s, level, slope, corr, sigma) {
  const v = sigma * sigma, g = s.r[0] * level, h = s.r[1] * slope;
  const m11 = v + g * g, m22 = v + h * h, m12 = corr * g * h, N = s.J * s.n;
  const det = v * (v + g * g + h * h) + g * g * h * h * (1 - corr * corr);
  return (
    (N - 2) * LOG_2PI + 2 * Math.log(s.J) + Math.log(s.n * s.sxx) + s.df * Math.log(v) + s.within / v +
    (s.J - 1) * Math.log(det) + (m22 * s.B[0] + m11 * s.B[2] - 2 * m12 * s.B[1]) / det
  );
}

// In closed form: M has the eigenvectors of B / (J - 1), its eigenvalues pooled with sigma^2 where they are below it.
function remlSlopes(s) {
  const [a, b, c] = s.B.map((v) => v / (s.J - 1)), half = Math.hypot((a - c) / 2, b);
  const values = [(a + c) / 2 + half, (a + c) / 2 - half];
  let variance = s.within / s.df, kept = 2;
  for (let sum = s.within, df = s.df; kept > 0 && values[kept - 1] <= variance; kept--) {
    sum += (s.J - 1) * values[kept - 1];
    df += s.J - 1;
    variance = sum / df;
  }
  const angle = 0.5 * Math.atan2(2 * b, a - c), u = [[Math.cos(angle), Math.sin(angle)], [-Math.sin(angle), Math.cos(angle)]];
  const excess = values.map((value, i) => (i < kept ? value - variance : 0));
  const G = (i, j) => (excess[0] * u[0][i] * u[0][j] + excess[1] * u[1][i] * u[1][j]) / (s.r[i] * s.r[j]);
  const level = Math.sqrt(G(0, 0)), slope = Math.sqrt(G(1, 1)), sigma = Math.sqrt(variance);
  const corr = kept === 2 ? G(0, 1) / (level * slope) : level * slope > 0 ? Math.sign(G(0, 1)) : NaN;
  return { level, slope, corr, sigma, rank: kept, singular: kept < 2, criterion: criterionSlopes(s, level, slope, corr || 0, sigma) };
}

// The criterion at one sd (0: level, 1: slope), at the best values of the others: the factor [[sd, 0], [b, c]] of G with
// that effect first, and 2 log sigma.
function profileSlopes(s, which, sd, start) {
  const fixed = s.r[which] * sd, B = which ? [s.B[2], s.B[1], s.B[0]] : s.B, m = s.J - 1;
  const constant = (s.J * s.n - 2) * LOG_2PI + 2 * Math.log(s.J) + Math.log(s.n * s.sxx);
  const f = ([b, c, u]) => {
    const v = Math.exp(u), m11 = v + fixed * fixed, m12 = fixed * b, m22 = v + b * b + c * c;
    const det = v * (v + fixed * fixed + b * b + c * c) + fixed * fixed * c * c;
    const i11 = m22 / det, i12 = -m12 / det, i22 = m11 / det;
    // K = (J - 1) / M - B within the inverse of M on both sides: the derivative by M
    const k = (p, q, r, t) => p * (r * B[0] + t * B[1]) + q * (r * B[1] + t * B[2]);
    const k11 = m * i11 - k(i11, i12, i11, i12), k12 = m * i12 - k(i11, i12, i12, i22), k22 = m * i22 - k(i12, i22, i12, i22);
    return {
      value: constant + s.df * u + s.within / v + m * Math.log(det) + i11 * B[0] + 2 * i12 * B[1] + i22 * B[2],
      gradient: [2 * (k12 * fixed + k22 * b), 2 * k22 * c, s.df - s.within / v + v * (k11 + k22)],
    };
  };
  return minimise(f, start, 1e-6);
}

// Minimum over the others along a curve of one sd, each point from the last: more than one start, the lower taken.
function profileCurve(s, reml, which, sds) {
  const other = which ? reml.level : reml.slope, r = s.r[1 - which];
  const corr = reml.corr || 0, near = [corr * r * other, Math.sqrt(1 - corr * corr) * r * other + 1e-3 * reml.sigma, 2 * Math.log(reml.sigma)];
  let last = near;
  return sds.map((sd) => {
    const found = profileSlopes(s, which, sd, last), again = profileSlopes(s, which, sd, near);
    const best = found.value <= again.value ? found : again;
    last = best.x.slice();
    last[1] = Math.abs(last[1]) + 1e-3 * reml.sigma;
    return best.value - reml.criterion;
  });
}

// Probability that REML's covariance is singular at true sds: that the smaller root of B / (J - 1) falls below the
// residual mean square. B = M^(1/2) W M^(1/2); with Bartlett's factor of W (a^2, c^2 chi-square with J - 1 and J - 2
// degrees of freedom, b normal) and roots m1, m2 of M, W - diag(c1, c2) is positive definite if a^2 > c1 and
// c^2 > c2 + c1 b^2 / (a^2 - c1), c_i = (J - 1) s^2 / m_i. Integrated over w = a^2 - c1, b = sqrt(w) beta and log s^2.
function singularSlopes(J, n, sxx, truth) {
  const v = truth.within ** 2, g = n * truth.level ** 2, h = sxx * truth.slope ** 2;
  const half = Math.hypot((g - h) / 2, truth.corr * Math.sqrt(g * h));
  const m1 = v + (g + h) / 2 + half, m2 = v + Math.max((g + h) / 2 - half, 0), df = J * (n - 2), m = J - 1;
  const outer = nodesOn(chiAxis(df), 32), logNorm = -(df / 2) * Math.log(2) - logGamma(df / 2);
  const logNormA = -(m / 2) * Math.log(2) - logGamma(m / 2) - 0.5 * LOG_2PI;
  let regular = 0;
  outer.value.forEach((chi, i) => {
    const ratio = (m * v * chi) / df, c1 = ratio / m1, c2 = ratio / m2;
    const weight = Math.exp(logNorm + (df / 2 - 1) * Math.log(chi) - chi / 2 + outer.logWeight[i]);
    const ws = nodesOn({ coordinate: logCoordinate, lower: Math.log(m) - 26, upper: Math.log(m + 12 * Math.sqrt(2 * m) + 40) }, 56);
    const inner = Float64Array.from(ws.value, (w, k) => Math.exp(logNormA + (m / 2 - 1) * Math.log(c1 + w) - (c1 + w) / 2 + 0.5 * Math.log(w) + ws.logWeight[k]));
    const reach = sinhCoordinate(1 / Math.sqrt(m)), betas = nodesOn({ coordinate: reach, lower: 0, upper: reach.back(Math.sqrt(90 / c1)) }, 32);
    betas.value.forEach((beta, k) => {
      let sum = 0;
      for (let l = 0; l < inner.length; l++) sum += inner[l] * Math.exp(-0.5 * ws.value[l] * beta * beta);
      regular += 2 * weight * Math.exp(betas.logWeight[k]) * gammaUpper((m - 1) / 2, (c2 + c1 * beta * beta) / 2) * sum;
    });
  });
  return Math.min(1, Math.max(0, 1 - regular));
}

function chiAxis(df) {
  const width = Math.sqrt(2 / df);
  return { coordinate: logCoordinate, lower: Math.log(df) - 8.5 * width - 40 / df, upper: Math.log(df) + 6.5 * width + 4 / df };
}

const SLOPE_DEPTH = 18, LINE_DEPTH = 25, SLOPE_NODES = { level: 36, slope: 36, corr: 40, sigma: 30 };
// While a slider moves: good to the digits that are shown.
const MOVING_NODES = { level: 22, slope: 22, corr: 24, sigma: 22 };

function analyseSlopes(data, prior, fine) {
  const s = summariseSlopes(data), reml = remlSlopes(s), sdY = spread(data), sdX = Math.sqrt(s.sxx / s.n);
  const scale = { level: prior.scale * sdY, slope: (prior.scale * sdY) / sdX, sigma: sdY };
  const log = { level: PRIORS[prior.family].log(scale.level), slope: PRIORS[prior.family].log(scale.slope), sigma: HALF_T(3, sdY) };
  const logDensity = ([a, b, corr, sigma]) =>
    log.level(a) + log.slope(b) + log.sigma(sigma) - Math.LN2 - 0.5 * criterionSlopes(s, a, b, corr, sigma);
  const axes = [
    levelAxis(prior, scale.level, reml.sigma / s.r[0]),
    levelAxis(prior, scale.slope, reml.sigma / s.r[1]),
    { coordinate: plainCoordinate, lower: -1, upper: 1, free: { in: Math.tanh, out: Math.atanh }, step: 0.1 },
    sigmaAxis(reml.sigma, s.df),
  ];
  const top = findBox(axes, logDensity, startsOf(axes, [reml.level, reml.slope], reml.sigma, reml.corr), SLOPE_DEPTH);
  const names = ["level", "slope", "corr", "sigma"];
  const nodes = axes.map((a, k) => nodesOn(a, (fine ? SLOPE_NODES : MOVING_NODES)[names[k]]));
  const sums = integrateSlopes(s, nodes, log, top);
  const priors = { ...log, corr: () => -Math.LN2 };
  const posterior = Object.fromEntries(names.map((name, k) => [name, new Marginal(axes[k], nodes[k], sums.mass[k], priors[name])]));
  const byReml = weights(s, (() => {
    const g = s.r[0] * reml.level, h = s.r[1] * reml.slope, v = reml.sigma ** 2, k = (reml.corr || 0) * g * h;
    const det = (v + g * g) * (v + h * h) - k * k;
    return [(v * (v + h * h)) / det, (-v * k) / det, (v * (v + g * g)) / det];
  })());
  const byPosterior = weights(s, sums.kept);
  const drawn = (c, W) => [0, 1].map((i) => s.centre[i] + W[i][0] * (c[0] - s.centre[0]) + W[i][1] * (c[1] - s.centre[1]));
  return {
    summary: s, reml, scale, spread: sdY, posterior,
    priors: { level: (v) => Math.exp(log.level(v)), slope: (v) => Math.exp(log.slope(v)), corr: () => 0.5 },
    shrinkage: { reml: byReml, posterior: byPosterior },
    groups: s.coefficients.map((c) => ({ own: c, reml: drawn(c, byReml), posterior: drawn(c, byPosterior) })),
    population: s.centre,
  };
}

// Masses of the four margins, and the posterior mean of sigma^2 / M: what shrinkage takes away. Lines along sigma are
// followed from the peak of the last one as far as they carry mass.
function integrateSlopes(s, nodes, log, top) {
  const [A, H, C, S] = nodes, m = (s.J - 1) / 2, [b11, b12, b22] = s.B, count = S.value.length;
  const constant = (s.J * s.n - 2) * LOG_2PI + 2 * Math.log(s.J) + Math.log(s.n * s.sxx);
  const v = S.value.map((x) => x * x);
  const base = S.value.map((x, k) => S.logWeight[k] + log.sigma(x) - Math.LN2 - 0.5 * (constant + s.df * Math.log(v[k]) + s.within / v[k]) - top);
  const sizeA = A.value.map((x) => (s.r[0] * x) ** 2), sizeH = H.value.map((x) => (s.r[1] * x) ** 2);
  const logA = A.value.map((x, i) => log.level(x) + A.logWeight[i]), logH = H.value.map((x, i) => log.slope(x) + H.logWeight[i]);
  const mass = nodes.map((n) => new Float64Array(n.value.length)), kept = [0, 0, 0], ofSigma = mass[3];
  let total = 0, last = count >> 1;
  for (let i = 0; i < sizeA.length; i++)
    for (let j = 0; j < sizeH.length; j++) {
      const g = sizeA[i], h = sizeH[j], root = Math.sqrt(g * h), trace = g + h, outer = logA[i] + logH[j];
      for (let l = 0; l < C.value.length; l++) {
        const g12 = C.value[l] * root, det = g * h - g12 * g12, flat = 0.5 * (h * b11 + g * b22 - 2 * g12 * b12), half = 0.5 * (b11 + b22);
        const prior = outer + C.logWeight[l];
        const at = (k) => {
          const d = v[k] * (v[k] + trace) + det;
          return prior + base[k] - m * Math.log(d) - (v[k] * half + flat) / d;
        };
        let peak = at(last);
        for (let next; last + 1 < count && (next = at(last + 1)) > peak; last++) peak = next;
        for (let next; last > 0 && (next = at(last - 1)) > peak; last--) peak = next;
        if (peak - A.logRule[i] - H.logRule[j] - C.logRule[l] - S.logRule[last] < -LINE_DEPTH) continue;
        let sum = 0, k11 = 0, k12 = 0, k22 = 0;
        for (let side = 0; side < 2; side++)
          for (let k = last + side; k >= 0 && k < count; k += side ? 1 : -1) {
            const term = at(k);
            if (term < peak - LINE_DEPTH) break;
            const p = Math.exp(term), q = (p * v[k]) / (v[k] * (v[k] + trace) + det);
            sum += p;
            ofSigma[k] += p;
            k11 += q * (v[k] + h);
            k12 -= q * g12;
            k22 += q * (v[k] + g);
          }
        mass[0][i] += sum;
        mass[1][j] += sum;
        mass[2][l] += sum;
        total += sum;
        kept[0] += k11;
        kept[1] += k12;
        kept[2] += k22;
      }
    }
  return { mass, kept: kept.map((k) => k / total) };
}

// The matrix that draws a group's (level, slope) to the population's, from sigma^2 / M in the orthonormal columns.
function weights(s, [k11, k12, k22]) {
  return [
    [1 - k11, (-k12 * s.r[1]) / s.r[0]],
    [(-k12 * s.r[0]) / s.r[1], 1 - k22],
  ];
}
