// Pictures as SVG text. Colours and dashes are classes of the style sheet, so that they follow light and dark.

const escapeText = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

// Round ticks of an axis.
function ticks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= raw);
  const found = [];
  for (let t = Math.ceil(low / step - 1e-9) * step; t <= high + 1e-9 * step; t += step) found.push(Math.abs(t) < 1e-9 * step ? 0 : t);
  return found;
}

const short = (v) => (Math.abs(v) >= 1e5 || (v !== 0 && Math.abs(v) < 1e-3) ? v.toExponential(1) : String(+v.toPrecision(4)));

// A frame with axes; `body` gets the scales and returns marks, which are cut off at the frame.
function chart({ width, height, x, y, xLabel, yLabel, xTicks, yTicks, label }, body) {
  const left = yTicks === false && !yLabel ? 14 : yLabel ? 58 : 80, right = width - 12, top = 10, bottom = height - 42;
  const sx = (v) => left + ((v - x[0]) / (x[1] - x[0])) * (right - left);
  const sy = (v) => bottom - ((v - y[0]) / (y[1] - y[0])) * (bottom - top);
  const parts = [`<svg role="img" aria-label="${escapeText(label)}" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">`];
  for (const t of xTicks || ticks(x[0], x[1], Math.max(3, Math.floor((right - left) / 80)))) {
    const [at, name] = Array.isArray(t) ? t : [t, short(t)];
    parts.push(`<line class="grid" x1="${sx(at)}" x2="${sx(at)}" y1="${top}" y2="${bottom}"/>`);
    parts.push(`<text class="tick" x="${sx(at)}" y="${bottom + 16}" text-anchor="middle">${escapeText(name)}</text>`);
  }
  if (yTicks !== false)
    for (const t of yTicks || ticks(y[0], y[1], 4)) {
      const [at, name] = Array.isArray(t) ? t : [t, short(t)];
      parts.push(`<line class="grid" x1="${left}" x2="${right}" y1="${sy(at)}" y2="${sy(at)}"/>`);
      parts.push(`<text class="tick" x="${left - 6}" y="${sy(at) + 4}" text-anchor="end">${escapeText(name)}</text>`);
    }
  const clip = `clip${chart.count = (chart.count || 0) + 1}`;
  parts.push(`<clipPath id="${clip}"><rect x="${left}" y="${top}" width="${right - left}" height="${bottom - top}"/></clipPath>`);
  parts.push(`<g clip-path="url(#${clip})">${body(sx, sy, { left, right, top, bottom })}</g>`);
  parts.push(`<path class="axis" d="M${left} ${top}V${bottom}H${right}"/>`);
  parts.push(`<text class="label" x="${(left + right) / 2}" y="${height - 6}" text-anchor="middle">${escapeText(xLabel)}</text>`);
  if (yLabel) parts.push(`<text class="label" transform="translate(14 ${(top + bottom) / 2}) rotate(-90)" text-anchor="middle">${escapeText(yLabel)}</text>`);
  return parts.join("") + "</svg>";
}

const path = (points, kind) => `<path class="${kind}" d="M${points.map(([a, b]) => `${a.toFixed(2)} ${b.toFixed(2)}`).join("L")}"/>`;
const dot = (x, y, kind, size = 4) => `<circle class="${kind}" cx="${x.toFixed(2)}" cy="${y.toFixed(2)}" r="${size}"/>`;
const square = (x, y, kind, size = 4) => `<rect class="${kind}" x="${(x - size).toFixed(2)}" y="${(y - size).toFixed(2)}" width="${2 * size}" height="${2 * size}"/>`;
const diamond = (x, y, kind, size = 5) => `<path class="${kind}" d="M${x.toFixed(2)} ${(y - size).toFixed(2)}l${size} ${size}l${-size} ${size}l${-size} ${-size}z"/>`;
const upright = (x, box, kind) => `<line class="${kind}" x1="${x}" x2="${x}" y1="${box.top}" y2="${box.bottom}"/>`;
const grid = (low, high, count) => Array.from({ length: count }, (_, i) => low + ((high - low) * i) / (count - 1));

function padded(values, share = 0.06) {
  const low = Math.min(...values), high = Math.max(...values), room = (high - low || Math.abs(high) || 1) * share;
  return [low - room, high + room];
}

// Observations; a group's own mean or line, and that of the model.
function drawData(data, result, names, size) {
  const y = padded(data.y.flat());
  if (data.kind === "levels") {
    const J = data.y.length, every = Math.ceil(J / Math.max(4, Math.floor(size.width / 34)));
    return chart(
      { ...size, x: [0.4, J + 0.6], y, xLabel: names.group, yLabel: names.response, label: `Observations of ${J} groups with their means and the predictions of REML.`,
        xTicks: data.labels.map((name, j) => [j + 1, name.length > 6 ? `${name.slice(0, 5)}…` : name]).filter((_, j) => j % every === 0) },
      (sx, sy) => path([[sx(0), sy(result.population)], [sx(J + 1), sy(result.population)]], "population") +
        data.y.map((row, j) => row.map((v) => diamond(sx(j + 1), sy(v), "observed", 2.5)).join("")).join("") +
        result.groups.map((g, j) => square(sx(j + 1), sy(g.own), "own") + diamond(sx(j + 1), sy(g.reml), "reml", 4)).join(""),
    );
  }
  const s = result.summary, x = padded(data.x, 0.04);
  const line = (sx, sy, c, kind) => path(x.map((at) => [sx(at), sy(c[0] + c[1] * (at - s.centreX))]), kind);
  return chart(
    { ...size, x, y, xLabel: names.x, yLabel: names.response, label: `Observations of ${data.y.length} groups with a line for each of them, its own and that of REML.` },
    (sx, sy) => data.y.map((row) => row.map((v, k) => dot(sx(data.x[k]), sy(v), "observed", 2)).join("")).join("") +
      result.groups.map((g) => line(sx, sy, g.own, "own-line")).join("") + result.groups.map((g) => line(sx, sy, g.reml, "reml-line")).join("") +
      line(sx, sy, result.population, "population"),
  );
}

// How much worse the REML criterion becomes as one sd moves away from its estimate.
function drawProfile(curve, estimate, truth, label, size) {
  const top = Math.max(6, Math.min(12, Math.max(...curve.map((p) => p[1])))), x = [0, curve[curve.length - 1][0]];
  return chart(
    { ...size, x, y: [-0.3, top], xLabel: label, yLabel: "criterion above its minimum", label: `REML criterion against the ${label}: the minimum is at ${short(estimate)}.` },
    (sx, sy, box) => path([[box.left, sy(3.841459)], [box.right, sy(3.841459)]], "limit") +
      (truth === null ? "" : upright(sx(truth), box, "truth")) +
      path(curve.map(([a, b]) => [sx(a), sy(b)]), "reml-curve") + diamond(sx(estimate), sy(0), "reml", 5.5) +
      `<text class="tick halo" x="${box.right - 4}" y="${sy(3.841459) - 5}" text-anchor="end">values below are in the 95 % interval</text>`,
  );
}

// Prior and posterior density of one parameter, with the estimate, the median and the truth.
function drawDensity(marginal, prior, estimate, truth, range, label, size) {
  const at = grid(range[0], range[1], 141), post = at.map((v) => marginal.density(v)), before = at.map(prior);
  const inside = post.filter((v, i) => i > 0 && Number.isFinite(v)), top = 1.12 * Math.max(...inside), median = marginal.quantile(0.5);
  const low = marginal.quantile(0.025), high = marginal.quantile(0.975);
  return chart(
    { ...size, x: range, y: [0, top], xLabel: label, yLabel: "density", yTicks: false, label: `Posterior density of the ${label}: median ${short(median)}, 95 % between ${short(low)} and ${short(high)}; REML estimate ${short(estimate)}.` },
    (sx, sy, box) => {
      const points = at.map((v, i) => [sx(v), sy(Math.min(post[i], 2 * top))]), held = grid(Math.max(low, range[0]), Math.min(high, range[1]), 70);
      return path([[sx(held[0]), sy(0)], ...held.map((v) => [sx(v), sy(Math.min(marginal.density(v), 2 * top))]), [sx(held[held.length - 1]), sy(0)]], "posterior-area") +
        path(at.map((v, i) => [sx(v), sy(Math.min(before[i], 2 * top))]), "prior-curve") + path(points, "posterior-curve") +
        (truth === null ? "" : upright(sx(truth), box, "truth")) + upright(sx(estimate), box, "reml-curve") + diamond(sx(estimate), sy(0.02 * top), "reml", 5.5) +
        dot(sx(median), sy(0.02 * top), "posterior", 6);
    },
  );
}

// From a group's own estimate to the prediction of REML to the posterior mean.
function drawShrinkage(data, result, names, size) {
  if (data.kind === "levels") {
    const x = padded(result.groups.flatMap((g) => [g.own, g.reml, g.posterior]));
    return chart(
      { ...size, x, y: [-0.35, 2.35], xLabel: names.response, yTicks: [[2, "own mean"], [1, "REML"], [0, "posterior"]], label: `Shrinkage of group means: REML keeps ${percent(result.shrinkage.reml)} of the distance from the mean of all, the posterior ${percent(result.shrinkage.posterior)}.` },
      (sx, sy, box) => upright(sx(result.population), box, "population") +
        result.groups.map((g) => path([[sx(g.own), sy(2)], [sx(g.reml), sy(1)], [sx(g.posterior), sy(0)]], "arrow")).join("") +
        result.groups.map((g) => square(sx(g.own), sy(2), "own") + diamond(sx(g.reml), sy(1), "reml") + dot(sx(g.posterior), sy(0), "posterior")).join(""),
    );
  }
  const all = (i) => result.groups.flatMap((g) => [g.own[i], g.reml[i], g.posterior[i]]);
  return chart(
    { ...size, x: padded(all(0)), y: padded(all(1)), xLabel: `level at the middle of ${names.x}`, yLabel: "slope", label: "Shrinkage in the plane of level and slope: from each group's own line to the predictions of REML and to the posterior means, with REML's ellipse of half of all groups." },
    (sx, sy) => ellipse(result.reml, result.population, sx, sy) +
      result.groups.map((g) => path([g.own, g.reml, g.posterior].map((c) => [sx(c[0]), sy(c[1])]), "arrow")).join("") +
      result.groups.map((g) => square(sx(g.own[0]), sy(g.own[1]), "own", 3) + diamond(sx(g.reml[0]), sy(g.reml[1]), "reml", 5.5) + dot(sx(g.posterior[0]), sy(g.posterior[1]), "posterior", 3)).join("") +
      dot(sx(result.population[0]), sy(result.population[1]), "centre", 4.5),
  );
}

// The ellipse that holds half of the groups by REML's covariance; a line where that is singular.
function ellipse(reml, centre, sx, sy) {
  const r = Math.sqrt(2 * Math.LN2), rest = Math.sqrt(Math.max(0, 1 - (reml.corr || 0) ** 2));
  const points = grid(0, 2 * Math.PI, 90).map((a) => [
    sx(centre[0] + r * reml.level * Math.cos(a)),
    sy(centre[1] + r * reml.slope * ((reml.corr || 0) * Math.cos(a) + rest * Math.sin(a))),
  ]);
  return path(points, "ellipse");
}

// P(REML says zero) against the true sd.
function drawZero(J, n, within, level, most, size) {
  const at = grid(0, most, 80);
  return chart(
    { ...size, x: [0, most], y: [0, 0.75], xLabel: "true sd between groups", yLabel: "P(REML says zero)", yTicks: [0, 0.25, 0.5, 0.75].map((p) => [p, percent(p)]), label: `Probability that REML says zero against the true sd; at ${short(level)} it is ${percent(zeroLevels(J, n, level, within))}.` },
    (sx, sy, box) => upright(sx(level), box, "truth") + path(at.map((v) => [sx(v), sy(zeroLevels(J, n, v, within))]), "reml-curve") + diamond(sx(level), sy(zeroLevels(J, n, level, within)), "reml", 5.5),
  );
}

const percent = (p) => (p > 0 && p < 0.001 ? "less than 0.1 %" : p > 0.999 && p < 1 ? "more than 99.9 %" : `${+(100 * p).toPrecision(p < 0.1 || p > 0.9 ? 3 : 2)} %`);
