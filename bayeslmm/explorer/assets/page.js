// The page: sliders, words, numbers and pictures of one state.

const $ = (id) => document.getElementById(id);
const YOURS = JSON.parse($("yours").textContent);
const round1 = (v) => +v.toPrecision(2);

// Sliders of both models: [name, words, least, most, step]; sds in units of the response, of yours if there are data.
function sliders() {
  const unit = YOURS ? round1(spread(YOURS)) : 10, slope = YOURS ? round1(unit / (spreadOf(YOURS.x) || 1)) : 4;
  return [
    ["groups", "Number of groups", 4, 40, 1],
    ["rows", "Observations per group", YOURS?.kind === "slopes" ? 3 : 2, 20, 1],
    ["level", "True sd between groups", 0, 1.6 * unit, unit / 50],
    ["slope", "True sd of slopes", 0, 1.6 * slope, slope / 50],
    ["corr", "True correlation of level and slope", -0.95, 0.95, 0.05],
    ["within", "True sd within groups", unit / 10, 2 * unit, unit / 50],
  ];
}

const spreadOf = (x) => Math.sqrt(mean(x.map((v) => (v - mean(x)) ** 2)));

function firstState() {
  const state = { source: "simulated", kind: "levels", groups: 8, rows: 5, level: 4, slope: 1.2, corr: 0.3, within: 10, family: "half-t", scale: 0, seed: 1, shown: "level" };
  if (!YOURS) return state;
  const reml = analyse(YOURS, { family: "half-t", scale: 1 }).reml, slopes = YOURS.kind === "slopes";
  return {
    ...state, source: "yours", kind: YOURS.kind, groups: YOURS.y.length, rows: YOURS.y[0].length, level: reml.level, within: reml.sigma,
    slope: slopes ? reml.slope : 0, corr: slopes ? Math.min(0.95, Math.max(-0.95, reml.corr || 0)) : 0, shown: slopes ? "slope" : "level",
  };
}

const state = firstState();
const names = { group: "group", response: "y", x: "x", ...(YOURS ? YOURS.names : {}) };
let centre = [50, 2];

function dataOf() {
  if (state.source === "yours") return YOURS;
  const step = YOURS?.kind === "slopes" ? (YOURS.x[YOURS.x.length - 1] - YOURS.x[0]) / (YOURS.x.length - 1) : 1;
  const x = YOURS?.kind === "slopes" && YOURS.x.length === state.rows ? YOURS.x : steps(state.rows, step);
  return simulate({ ...state, x, centre });
}

// What is drawn and said, from the state alone.
function update(fine) {
  const started = performance.now(), data = dataOf(), prior = { family: state.family, scale: 10 ** state.scale };
  const result = analyse(data, prior, fine), truth = state.source === "simulated" ? state : null, slopes = state.kind === "slopes";
  const shown = slopes ? state.shown : "level", word = sdWord(shown, slopes);
  show(data, result, truth, shown, word);
  const s = result.summary, at = truth || { level: state.level, slope: state.slope, corr: state.corr, within: state.within };
  const chance = slopes ? singularSlopes(s.J, s.n, s.sxx, at) : zeroLevels(s.J, s.n, at.level, at.within);
  $("words").innerHTML = words(result, truth, shown, word, chance);
  $("numbers").innerHTML = numbers(result, truth, slopes, chance);
  $("prior-words").textContent = state.family === "flat" ? "The flat prior has no scale." :
    `${short(10 ** state.scale)} times the sd of all observations (${short(result.spread)}): ${short(result.scale.level)}${slopes ? `, and ${short(result.scale.slope)} for slopes` : ""}.`;
  if ($("take-away").open) takeAway(data, result);
  document.body.dataset[fine && slopes ? "fine" : "ms"] = (performance.now() - started).toFixed(1);
  document.body.dataset.moves = +(document.body.dataset.moves || 0) + 1;
}

const sdWord = (shown, slopes) => (shown === "slope" ? "sd of slopes" : slopes ? "sd of levels" : "sd between groups");

function show(data, result, truth, shown, word) {
  const size = (id) => ({ width: Math.max(280, Math.floor($(id).clientWidth)), height: 270 }), put = (id, text) => ($(id).innerHTML = text);
  const marginal = result.posterior[shown], estimate = result.reml[shown], reach = Math.max(marginal.quantile(0.99), 1.4 * estimate, truth ? 1.1 * truth[shown] : 0);
  put("data", drawData(data, result, names, size("data")));
  put("shrinkage", drawShrinkage(data, result, names, size("shrinkage")));
  put("density", drawDensity(marginal, result.priors[shown], estimate, truth && truth[shown], [0, reach], word, size("density")));
  const sds = grid(0, reach, state.kind === "slopes" ? 40 : 90);
  const values = state.kind === "slopes" ? profileCurve(result.summary, result.reml, shown === "slope" ? 1 : 0, sds) : sds.map(result.profile.level);
  put("profile", drawProfile(sds.map((v, i) => [v, values[i]]), estimate, truth && truth[shown], word, size("profile")));
  $("zero-figure").hidden = state.kind === "slopes";
  $("corr-figure").hidden = state.kind !== "slopes";
  if (state.kind === "slopes") {
    const corr = Number.isFinite(result.reml.corr) ? result.reml.corr : 0;
    put("corr-density", drawDensity(result.posterior.corr, result.priors.corr, corr, truth && truth.corr, [-1, 1], "correlation of level and slope", size("corr-density")));
  } else put("zero", drawZero(result.summary.J, result.summary.n, state.within, state.level, +$("level").max, size("zero")));
}

function words(result, truth, shown, word, chance) {
  const m = result.posterior[shown], reml = result.reml, num = (v) => `<b>${short(+v.toPrecision(3))}</b>`;
  const estimate = reml[shown] === 0 ? `<b class="reml-word">REML says zero:</b> the groups' ${shown === "slope" ? "slopes" : "means"} differ no more than noise would make them differ.`
    : reml.singular ? `<b class="reml-word">REML's covariance is singular:</b> it says that the ${word} is ${num(reml[shown])}, and that the correlation is exactly <b>${reml.corr > 0 ? "1" : "−1"}</b>.`
    : `<b class="reml-word">REML says</b> that the ${word} is ${num(reml[shown])}.`;
  const posterior = `<b class="posterior-word">The posterior says</b> that it is as likely above as below ${num(m.quantile(0.5))}, and with probability 95 % between ${num(m.quantile(0.025))} and ${num(m.quantile(0.975))}.`;
  const corr = state.kind === "slopes" ? ` The correlation is between ${num(result.posterior.corr.quantile(0.025))} and ${num(result.posterior.corr.quantile(0.975))}.` : "";
  const event = state.kind === "slopes" ? "a singular covariance" : "zero";
  const often = `With ${truth ? "these true values" : "true values as at the sliders"}, REML would say ${event} in <b>${percent(chance)}</b> of all data sets of this size.`;
  return `<p>${estimate}</p><p>${posterior}${corr}</p><p>${often}</p>`;
}

// Cells carry the number itself, beside the digits that are shown.
function numbers(result, truth, slopes, chance) {
  const cell = (id, v) => `<td id="${id}" data-value="${v}">${v === null || !Number.isFinite(v) ? "–" : short(+v.toPrecision(4))}</td>`;
  const rows = [["level", slopes ? "sd of levels" : "sd between groups"], ...(slopes ? [["slope", "sd of slopes"], ["corr", "correlation"]] : []), ["sigma", "sd within groups"]];
  const line = ([key, word]) => {
    const m = result.posterior[key], own = truth ? truth[key === "sigma" ? "within" : key] : null;
    return `<tr><th scope="row">${word}</th>${cell(`true-${key}`, own)}${cell(`reml-${key}`, result.reml[key])}${cell(`median-${key}`, m.quantile(0.5))}` +
      `${cell(`low-${key}`, m.quantile(0.025))}${cell(`high-${key}`, m.quantile(0.975))}</tr>`;
  };
  const extra = `<p>REML criterion <span id="criterion" data-value="${result.reml.criterion}">${result.reml.criterion.toFixed(4)}</span>; ` +
    `P(REML ${slopes ? "is singular" : "says zero"}) <span id="chance" data-value="${chance}">${percent(chance)}</span>` +
    (slopes ? "" : `; of a group's distance from the mean REML keeps ${percent(result.shrinkage.reml)}, the posterior ${percent(result.shrinkage.posterior)}`) + ".</p>";
  return `<div class="scroll"><table><thead><tr><td></td><th scope="col">true</th><th scope="col">REML</th><th scope="col">median</th><th scope="col">2.5 %</th><th scope="col">97.5 %</th></tr></thead>` +
    `<tbody>${rows.map(line).join("")}</tbody></table></div>${extra}`;
}

// The same data and model for Python.
function takeAway(data, result) {
  const slopes = data.kind === "slopes", sd = result.scale, scale = (v) => +v.toPrecision(6);
  const prior = (v) => ({
    "half-t": `bl.HalfT(3, ${v})`, "half-normal": `bl.HalfNormal(${v})`, "half-cauchy": `bl.HalfCauchy(${v})`, exponential: `bl.Exponential(${v})`,
    gamma: `bl.Gamma(2, 1 / ${v})`, "inverse-gamma": `bl.InverseGammaVariance(0.01, 0.01 * ${v}**2)`, flat: '"flat"',
  })[state.family];
  const priors = slopes ? `{"sd_${Math.abs(result.summary.centreX) > 1e-9 ? "at_mean_" : ""}group[Intercept]": ${prior(scale(sd.level))},\n          "sd_group[x]": ${prior(scale(sd.slope))}}` : `{"sd_group": ${prior(scale(sd.level))}}`;
  $("python").textContent = [
    "import bayeslmm as bl, pandas as pd", 'df = pd.read_csv("data.csv", dtype={"group": str})  # the rows below',
    `model = bl.Model("y ~ ${slopes ? "x + (x | group)" : "1 + (1 | group)"}", df)`, "fit = model.fit()", `post = model.sample(priors=${priors})`, "print(bl.compare(fit, post))",
  ].join("\n");
  const cell = (text) => (/[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
  $("csv").value = [slopes ? "group,x,y" : "group,y", ...data.y.flatMap((row, j) => row.map((v, k) => (slopes ? [cell(data.labels[j]), data.x[k], v] : [cell(data.labels[j]), v]).join(",")))].join("\n");
}

function setUp() {
  if (YOURS) centre = analyse(YOURS, { family: "half-t", scale: 1 }).population;
  if (YOURS && YOURS.kind === "levels") centre = [centre, 0];
  $("sliders").innerHTML = sliders().map(([id, word, low, high, step]) =>
    `<div class="slider" id="row-${id}"><label for="${id}">${word}</label><output for="${id}" id="out-${id}"></output><input type="range" id="${id}" min="${low}" max="${high}" step="${step}"></div>`).join("");
  $("family").innerHTML = Object.entries(PRIORS).map(([key, p]) => `<option value="${key}">${p.name}</option>`).join("");
  $("source-choice").hidden = !YOURS;
  $("kind-choice").hidden = !!YOURS;
  if (YOURS) $("of").textContent = `Data: ${YOURS.formula}`;
  for (const [id] of sliders()) listen(id, "input", (e) => (state[id] = +e.value));
  listen("scale", "input", (e) => (state.scale = +e.value));
  listen("seed", "input", (e) => (state.seed = Math.floor(Math.abs(+e.value)) % 1000000));
  listen("family", "change", (e) => (state.family = e.value));
  for (const name of ["source", "kind", "shown"])
    document.querySelectorAll(`input[name="${name}"]`).forEach((e) => e.addEventListener("change", () => change(() => (state[name] = e.value))));
  $("new-data").addEventListener("click", () => change(() => (state.seed = (state.seed + 1) % 1000000)));
  $("take-away").addEventListener("toggle", () => change(() => {}));
  window.addEventListener("resize", () => change(() => {}));
  change(() => {});
}

function listen(id, event, set) {
  $(id).addEventListener(event, () => change(() => set($(id))));
}

let waiting = false, resting;

// Sliders show the state, and the next frame what follows from it.
function change(set) {
  set();
  const slopes = state.kind === "slopes";
  $("rows").min = slopes ? 3 : 2;
  state.rows = Math.max(state.rows, +$("rows").min);
  for (const [id] of sliders()) {
    $(id).value = state[id];
    $(`out-${id}`).textContent = short(+state[id].toPrecision(3));
    $(id).setAttribute("aria-valuetext", short(+state[id].toPrecision(3)));
  }
  $("row-slope").hidden = $("row-corr").hidden = !slopes;
  document.querySelector("label[for=level]").textContent = slopes ? "True sd of levels (at the middle of x)" : "True sd between groups";
  $("shown-choice").hidden = !slopes;
  $("scale").value = state.scale;
  $("out-scale").textContent = `× ${short(+(10 ** state.scale).toPrecision(2))}`;
  $("scale").setAttribute("aria-valuetext", `${short(+(10 ** state.scale).toPrecision(2))} times the sd of all observations`);
  $("scale").disabled = state.family === "flat";
  $("seed").value = state.seed;
  $("family").value = state.family;
  for (const name of ["source", "kind", "shown"]) document.querySelectorAll(`input[name="${name}"]`).forEach((e) => (e.checked = e.value === state[name]));
  $("truth-note").hidden = state.source !== "yours";
  clearTimeout(resting);
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    delete document.body.dataset.fine;
    update(!slopes);
    // All digits when the slider rests.
    clearTimeout(resting);
    if (slopes) resting = setTimeout(() => update(true), 250);
  });
}

setUp();
