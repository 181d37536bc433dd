// Numerical methods: special functions, Gauss-Legendre quadrature and its series, minimisation.

const LOG_2PI = Math.log(2 * Math.PI);

// Log of the gamma function for x > 0: Stirling's series after the recurrence has moved x beyond 10.
function logGamma(x) {
  let product = 1;
  while (x < 10) product *= x++;
  const y = 1 / (x * x);
  const series = (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y * (1 / 1680 - y * (1 / 1188 - y * (691 / 360360)))))) / x;
  return (x - 0.5) * Math.log(x) - x + 0.5 * LOG_2PI + series - Math.log(product);
}

// Upper regularised incomplete gamma function Q(a, x): series below the mean, continued fraction (Lentz) above.
function gammaUpper(a, x) {
  if (x <= 0) return 1;
  const front = Math.exp(a * Math.log(x) - x - logGamma(a));
  if (x < a + 1) {
    let term = 1 / a, sum = term;
    for (let k = a + 1; term > 1e-17 * sum; k++) sum += term *= x / k;
    return 1 - front * sum;
  }
  let b = x + 1 - a, c = 1e300, d = 1 / b, h = d;
  for (let i = 1; i < 500; i++) {
    const an = i * (a - i);
    b += 2;
    d = 1 / (an * d + b);
    c = b + an / c;
    h *= c * d;
    if (Math.abs(c * d - 1) < 1e-15) break;
  }
  return front * h;
}

// Regularised incomplete beta function I_x(a, b) by its continued fraction (Lentz), on the side where that is short.
function betaLower(x, a, b) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - betaLower(1 - x, b, a);
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x)) / a;
  let c = 1, d = 1 / (1 - ((a + b) * x) / (a + 1)), h = d;
  for (let m = 1; m < 1000; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / (1 + even * d);
    c = 1 + even / c;
    h *= d * c;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / (1 + odd * d);
    c = 1 + odd / c;
    h *= d * c;
    if (Math.abs(d * c - 1) < 1e-15) break;
  }
  return front * h;
}

// P(F <= f) of an F variable with (d1, d2) degrees of freedom.
const fBelow = (f, d1, d2) => betaLower((d1 * f) / (d1 * f + d2), d1 / 2, d2 / 2);

const RULES = new Map();

// Nodes and weights of the Gauss-Legendre rule on [-1, 1], by Newton's method on the Legendre polynomial.
function gaussLegendre(n) {
  if (RULES.has(n)) return RULES.get(n);
  const x = new Float64Array(n), w = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    let z = -Math.cos((Math.PI * (i + 0.75)) / (n + 0.5)), slope = 1;
    for (let round = 0; round < 30; round++) {
      let p = 1, before = 0;
      for (let k = 0; k < n; k++) [p, before] = [((2 * k + 1) * z * p - k * before) / (k + 1), p];
      slope = (n * (z * p - before)) / (z * z - 1);
      const step = p / slope;
      z -= step;
      if (Math.abs(step) < 1e-15) break;
    }
    x[i] = z;
    w[i] = 2 / ((1 - z * z) * slope * slope);
  }
  const rule = { x, w };
  RULES.set(n, rule);
  return rule;
}

// A coordinate t on [lower, upper] of a parameter: value(t), its slope, and t of a value.
const sinhCoordinate = (scale) => ({
  value: (t) => scale * Math.sinh(t),
  slope: (t) => scale * Math.cosh(t),
  back: (v) => Math.asinh(v / scale),
});
const logCoordinate = { value: Math.exp, slope: Math.exp, back: Math.log };
const plainCoordinate = { value: (t) => t, slope: () => 1, back: (v) => v };

// Nodes of the rule on an axis: values of the parameter, log weights in t, and these times the slope.
function nodesOn(axis, n) {
  const rule = gaussLegendre(n), half = (axis.upper - axis.lower) / 2;
  const t = Float64Array.from(rule.x, (x) => axis.lower + half * (x + 1)), logRule = rule.w.map((w) => Math.log(half * w));
  return {
    value: t.map(axis.coordinate.value),
    logRule,
    logWeight: logRule.map((w, i) => w + Math.log(axis.coordinate.slope(t[i]))),
  };
}

// The box outside which the density is e^-depth of its maximum: along each axis the profile over the others is followed
// from the modes that several starts lead to. Each axis has limits and a coordinate without limits for the search.
function findBox(axes, logDensity, starts, depth) {
  const height = (free) => {
    let sum = 0;
    const point = axes.map((a, k) => {
      const t = a.free.in(free[k]);
      sum += Math.log(a.coordinate.slope(t));
      return a.coordinate.value(t);
    });
    return logDensity(point) + sum;
  };
  const fixed = (free, k) => free.map((v, i) => (i === k ? null : v));
  const modes = starts.map((start) => climb(height, axes.map((a, k) => a.free.out(start[k])), -1));
  const top = Math.max(...modes.map((m) => m.value));
  const box = axes.map(() => [Infinity, -Infinity]);
  for (const mode of modes.filter((m) => m.value > top - depth))
    axes.forEach((a, k) => {
      const at = a.free.in(mode.x[k]);
      box[k][0] = Math.min(box[k][0], profileEnd(a, k, height, mode, at, -1, top - depth));
      box[k][1] = Math.max(box[k][1], profileEnd(a, k, height, mode, at, 1, top - depth));
    });
  axes.forEach((a, k) => ([a.lower, a.upper] = box[k]));
  return top;
}

// The highest point from a start, with coordinate k held (-1: none); to a tenth of a log unit, which is all a box asks.
function climb(height, start, k) {
  const step = 1e-4, moved = start.map((_, i) => i).filter((i) => i !== k);
  const whole = (z) => {
    const free = start.slice();
    moved.forEach((i, j) => (free[i] = z[j]));
    return free;
  };
  const f = (z) => {
    const at = (j, d) => -height(whole(z.map((v, i) => (i === j ? v + d : v))));
    return { value: at(-1, 0), gradient: z.map((_, j) => (at(j, step) - at(j, -step)) / (2 * step)) };
  };
  const found = minimise(f, moved.map((i) => start[i]), 0.05, 25);
  return { x: whole(found.x), value: -found.value };
}

// Where on one side of a mode the profile along axis k falls below a level, or the limit of the axis.
function profileEnd(axis, k, height, mode, at, side, level) {
  const limit = side < 0 ? axis.lower : axis.upper;
  let free = mode.x, near = at, far = limit, nearValue = mode.value, farValue = -Infinity;
  const look = (t) => {
    const start = free.slice();
    start[k] = axis.free.out(t);
    return climb(height, start, k);
  };
  for (let length = axis.step; ; length *= 2) {
    const t = near + side * length;
    if (side * (limit - t) <= 0) return limit;
    const found = look(t);
    if (found.value < level) {
      [far, farValue] = [t, found.value];
      break;
    }
    [near, nearValue, free] = [t, found.value, found.x];
  }
  for (let round = 0; round < 3; round++) {
    const share = Math.min(Math.max((nearValue - level) / (nearValue - farValue), 0.1), 0.9), t = near + share * (far - near);
    const found = look(t);
    if (found.value < level) [far, farValue] = [t, found.value];
    else [near, nearValue, free] = [t, found.value, found.x];
  }
  return far;
}

const PANELS = 24, PANEL_NODES = 14, WINDOW = 12, NEGLIGIBLE = 1e-11;

// The marginal density of one parameter from its masses at the nodes of an axis. Its log less that of the prior is a
// smooth function of t whatever the prior: between nodes the polynomial through the nearest of them.
class Marginal {
  constructor(axis, nodes, mass, logPrior) {
    const total = mass.reduce((a, b) => a + b, 0), inT = mass.map((m, i) => m * Math.exp(-nodes.logRule[i]));
    const least = NEGLIGIBLE * inT.reduce((a, b) => Math.max(a, b), 0);
    const first = inT.findIndex((d) => d > least), last = inT.length - 1 - inT.slice().reverse().findIndex((d) => d > least);
    this.axis = axis;
    this.logPrior = logPrior;
    this.half = (axis.upper - axis.lower) / 2;
    this.mean = mass.reduce((sum, m, i) => sum + m * nodes.value[i], 0) / total;
    this.sd = Math.sqrt(mass.reduce((sum, m, i) => sum + m * (nodes.value[i] - this.mean) ** 2, 0) / total);
    this.x = gaussLegendre(mass.length).x.slice(first, last + 1);
    this.log = Float64Array.from(this.x, (_, i) => {
      const k = first + i;
      return Math.log(Math.max(mass[k] / total, 1e-300)) - nodes.logWeight[k] - logPrior(nodes.value[k]);
    });
    this.ends = [first ? this.x[0] : -1, last < mass.length - 1 ? this.x[this.x.length - 1] : 1];
    this.panels = [0];
    for (let k = 0; k < PANELS; k++) this.panels.push(this.panels[k] + this.between(this.edge(k), this.edge(k + 1)));
  }

  edge(panel) {
    return this.ends[0] + ((this.ends[1] - this.ends[0]) * panel) / PANELS;
  }

  // Density of the parameter at x in [-1, 1], by Neville's scheme on the nearest nodes.
  at(x) {
    const count = Math.min(WINDOW, this.x.length);
    let above = 0;
    while (above < this.x.length && this.x[above] < x) above++;
    const from = Math.min(Math.max(above - (count >> 1), 0), this.x.length - count);
    const p = this.log.slice(from, from + count);
    for (let order = 1; order < count; order++)
      for (let i = 0; i < count - order; i++) {
        const a = this.x[from + i], b = this.x[from + i + order];
        p[i] = ((x - b) * p[i] + (a - x) * p[i + 1]) / (a - b);
      }
    return Math.exp(p[0] + this.logPrior(this.axis.coordinate.value(this.axis.lower + this.half * (x + 1))));
  }

  between(x0, x1) {
    const rule = gaussLegendre(PANEL_NODES), half = (x1 - x0) / 2;
    let sum = 0;
    for (let i = 0; i < PANEL_NODES; i++) {
      const x = x0 + half * (rule.x[i] + 1);
      sum += rule.w[i] * this.at(x) * this.axis.coordinate.slope(this.axis.lower + this.half * (x + 1));
    }
    return sum * half * this.half;
  }

  place(value) {
    return (this.axis.coordinate.back(value) - this.axis.lower) / this.half - 1;
  }

  // Density of the parameter; zero outside the box.
  density(value) {
    const x = this.place(value);
    // The axis of a standard deviation begins a hair above zero.
    if (x < -1 && x > -1 - 1e-6) return this.ends[0] === -1 ? this.at(-1) : 0;
    return x >= this.ends[0] && x <= this.ends[1] ? this.at(x) : 0;
  }

  belowPlace(x) {
    const share = (x - this.ends[0]) / (this.ends[1] - this.ends[0]), panel = Math.min(Math.floor(share * PANELS), PANELS - 1);
    return (this.panels[panel] + this.between(this.edge(panel), x)) / this.panels[PANELS];
  }

  below(value) {
    const x = this.place(value);
    return x <= this.ends[0] ? 0 : x >= this.ends[1] ? 1 : this.belowPlace(x);
  }

  // By Newton's method within the panel that holds it, bisecting where a step would leave it.
  quantile(probability) {
    const panel = Math.max(this.panels.findIndex((below) => below >= probability * this.panels[PANELS]), 1);
    let low = this.edge(panel - 1), high = this.edge(panel), x = (low + high) / 2;
    for (let i = 0; i < 30 && high - low > 1e-13; i++) {
      const excess = this.belowPlace(x) - probability, t = this.axis.lower + this.half * (x + 1);
      if (excess < 0) low = x;
      else high = x;
      const step = (excess * this.panels[PANELS]) / (this.at(x) * this.axis.coordinate.slope(t) * this.half);
      if (Math.abs(step) < 1e-14) break;
      x = x - step > low && x - step < high ? x - step : (low + high) / 2;
    }
    return this.axis.coordinate.value(this.axis.lower + this.half * (x + 1));
  }
}

// Minimum of a smooth function of one variable on [low, high]: the best of a grid, then golden sections.
function minimum1(f, low, high, grid = 40) {
  let best = 0, value = Infinity;
  for (let i = 0; i <= grid; i++) {
    const v = f(low + ((high - low) * i) / grid);
    if (v < value) [value, best] = [v, i];
  }
  let a = low + ((high - low) * Math.max(best - 1, 0)) / grid, b = low + ((high - low) * Math.min(best + 1, grid)) / grid;
  const share = (Math.sqrt(5) - 1) / 2;
  let c = b - share * (b - a), d = a + share * (b - a), fc = f(c), fd = f(d);
  for (let i = 0; i < 44; i++) {
    if (fc < fd) [b, d, fd] = [d, c, fc], fc = f(c = b - share * (b - a));
    else [a, c, fc] = [c, d, fd], fd = f(d = a + share * (b - a));
  }
  return { x: (a + b) / 2, value: Math.min(fc, fd, value) };
}

// Minimum of a smooth function of a few variables (value and gradient) by BFGS with backtracking, until the gradient is
// below `enough`.
function minimise(f, start, enough = 1e-9, rounds = 200) {
  const d = start.length;
  let x = start.slice(), at = f(x);
  let H = x.map((_, i) => x.map((__, j) => (i === j ? 1 : 0))), fresh = true;
  for (let round = 0; round < rounds; round++) {
    if (Math.hypot(...at.gradient) < enough) break;
    let step = H.map((row) => -row.reduce((sum, h, j) => sum + h * at.gradient[j], 0));
    let slope = step.reduce((sum, s, i) => sum + s * at.gradient[i], 0);
    if (!(slope < 0)) [step, slope] = [at.gradient.map((g) => -g), -at.gradient.reduce((sum, g) => sum + g * g, 0)];
    let length = fresh ? Math.min(1, 1 / Math.hypot(...at.gradient)) : 1, next;
    for (let half = 0; half < 50; half++, length /= 2) {
      const trial = x.map((v, i) => v + length * step[i]);
      next = f(trial);
      if (next.value <= at.value + 1e-4 * length * slope) {
        next.x = trial;
        break;
      }
    }
    if (!next.x) {
      if (fresh) break;
      H = x.map((_, i) => x.map((__, j) => (i === j ? 1 : 0)));
      fresh = true;
      continue;
    }
    const s = next.x.map((v, i) => v - x[i]), y = next.gradient.map((g, i) => g - at.gradient[i]);
    const sy = s.reduce((sum, v, i) => sum + v * y[i], 0);
    if (sy > 1e-300) {
      if (fresh) H = H.map((row) => row.map((h) => (h * sy) / y.reduce((sum, v) => sum + v * v, 0)));
      const Hy = H.map((row) => row.reduce((sum, h, j) => sum + h * y[j], 0));
      const yHy = y.reduce((sum, v, i) => sum + v * Hy[i], 0);
      for (let i = 0; i < d; i++)
        for (let j = 0; j < d; j++) H[i][j] += ((1 + yHy / sy) * s[i] * s[j] - Hy[i] * s[j] - s[i] * Hy[j]) / sy;
      fresh = false;
    }
    [x, at] = [next.x, next];
  }
  return { x, value: at.value };
}
