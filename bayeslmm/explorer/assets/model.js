// Priors, simulated data, and what both models share.

// Priors of a standard deviation s >= 0 with a scale in the units of s. As in the Python package, by name.
const HALF_T = (df, scale) => {
  const constant = Math.log(2) + logGamma((df + 1) / 2) - logGamma(df / 2) - 0.5 * Math.log(df * Math.PI) - Math.log(scale);
  return (s) => constant - ((df + 1) / 2) * Math.log1p((s / scale) ** 2 / df);
};
const IG_SHAPE = 0.01;
const PRIORS = {
  "half-t": { name: "half-t, 3 degrees of freedom (the default)", log: (scale) => HALF_T(3, scale) },
  "half-normal": {
    name: "half-normal",
    log: (scale) => (s) => 0.5 * Math.log(2 / Math.PI) - Math.log(scale) - 0.5 * (s / scale) ** 2,
  },
  "half-cauchy": { name: "half-Cauchy", log: (scale) => HALF_T(1, scale) },
  exponential: { name: "exponential", log: (scale) => (s) => -Math.log(scale) - s / scale },
  gamma: {
    name: "gamma, shape 2 (keeps away from zero)",
    log: (scale) => (s) => Math.log(s) - 2 * Math.log(scale) - s / scale,
  },
  "inverse-gamma": {
    name: "inverse-gamma(0.01) on the variance",
    log: (scale) => {
      const rate = IG_SHAPE * scale * scale;
      const constant = Math.log(2) + IG_SHAPE * Math.log(rate) - logGamma(IG_SHAPE);
      return (s) => constant - (2 * IG_SHAPE + 1) * Math.log(s) - rate / (s * s);
    },
  },
  flat: { name: "flat", log: () => () => 0 },
};

// Standard normal numbers that depend on the seed and three places alone: a slider adds data, and leaves the others.
function standardNormal(seed, stream, group, row) {
  const mix = (salt) => {
    let h = 0x9e3779b9 ^ salt;
    for (const k of [seed, stream, group, row]) {
      h = Math.imul(h ^ k, 0x85ebca6b);
      h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
      h ^= h >>> 16;
      h = (h + 0x6d2b79f5) | 0;
    }
    h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
    h = Math.imul(h ^ (h >>> 12), 0x297a2d39);
    return ((h ^ (h >>> 15)) >>> 0) / 4294967296 + 0.5 / 4294967296;
  };
  return Math.sqrt(-2 * Math.log(mix(1))) * Math.cos(2 * Math.PI * mix(2));
}

// Balanced data at the settings of the sliders: y[group][row], and the x of the rows of every group.
function simulate(settings) {
  const { kind, groups, rows, seed, within, centre } = settings, x = settings.x || steps(rows, 1), middle = mean(x);
  const y = Array.from({ length: groups }, (_, j) => {
    const a = standardNormal(seed, 1, j, 0), b = standardNormal(seed, 2, j, 0);
    const slope = centre[1] + settings.slope * (settings.corr * a + Math.sqrt(1 - settings.corr ** 2) * b);
    return x.map((at, k) => {
      const line = kind === "slopes" ? slope * (at - middle) : 0;
      return centre[0] + settings.level * a + line + within * standardNormal(seed, 3, j, k);
    });
  });
  return { kind, x, y, labels: y.map((_, j) => String(j + 1)) };
}

// n equal steps about zero.
const steps = (n, step) => Array.from({ length: n }, (_, k) => (k - (n - 1) / 2) * step);

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

// Standard deviation of all observations: the scale that default priors refer to.
function spread(data) {
  const all = data.y.flat(), centre = mean(all);
  return Math.sqrt(all.reduce((sum, v) => sum + (v - centre) ** 2, 0) / (all.length - 1));
}

// All results of one data set under one prior, by the model that the data are for; not `fine`: quick, while a slider moves.
function analyse(data, prior, fine = true) {
  return data.kind === "slopes" ? analyseSlopes(data, prior, fine) : analyseLevels(data, prior);
}
