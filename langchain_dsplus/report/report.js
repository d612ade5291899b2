(() => {
  "use strict";
  // Numbers only: every text of the page was written, and escaped, before.
  const data = JSON.parse(document.getElementById("data").textContent);
  const steps = data.accepted.length;
  const find = (id) => document.getElementById(id);
  const slider = find("slider");
  const put = (id, text) => { const place = find(id); if (place) place.textContent = text; };

  const minus = (text) => text.replace(/^-(?=[0.,]*$)/, "").replace("-", "\u2212");
  const fixed = (value, digits) => minus(value.toFixed(digits));
  const percent = (value, digits = 1) => fixed(100 * value, digits) + "\u00a0%";
  const points = (value) => (Number((100 * value).toFixed(1)) > 0 ? "+" : "") + fixed(100 * value, 1);
  const whole = (value) => value.toLocaleString("en-US");
  const money = (value) => Number(value.toPrecision(4)).toLocaleString("en-US", { maximumSignificantDigits: 4 });

  const unpack = (begin, packed) => {
    const sums = new Int32Array(steps);
    for (let at = 0; at < packed.length; at += 2) sums[packed[at]] += packed[at + 1];
    let now = begin;
    for (let step = 0; step < steps; step += 1) { now += sums[step]; sums[step] = now; }
    return sums;
  };
  const tables = Object.entries(data.parts).map(([name, parts]) => ({
    rows: Array.from(document.querySelectorAll("#" + name + " tbody tr")),
    parts: parts.map((part) => ({
      ...part,
      accepted: unpack(0, part.change[0]),
      harms: unpack(part.begin[1], part.change[1]),
      gains: unpack(part.begin[2], part.change[2]),
      right: unpack(part.begin[3], part.change[3]),
    })),
  }));
  const lost = Array.from(document.querySelectorAll("#lost tbody tr")).map((row) => ({
    row, from: Number(row.dataset.from), to: Number(row.dataset.to),
  }));

  const charts = { quality: find("quality"), risk: find("risk") };
  const mark = (chart, x, y) => {
    if (!chart) return;
    const d = chart.dataset;
    const px = Number(d.left) + (x - d.x0) / (d.x1 - d.x0) * (d.right - d.left);
    const cross = chart.querySelector("[data-cross]"), dot = chart.querySelector("[data-dot]");
    cross.setAttribute("x1", px); cross.setAttribute("x2", px);
    dot.setAttribute("cx", y === null ? -99 : px);
    dot.setAttribute("cy", y === null ? -99 : Number(d.bottom) - (y - d.y0) / (d.y1 - d.y0) * (d.bottom - d.top));
  };

  const signed = (place, value) => {
    place.textContent = points(value);
    place.className = value < 0 ? "bad" : value > 0 ? "good" : "";
  };

  const said = (changes, step) => {
    let words = "";
    for (const [from, text] of changes) { if (from <= step) words = text; }
    return words;
  };

  const show = (step) => {
    const accepted = data.accepted[step], harms = data.harms[step], gains = data.gains[step];
    const coverage = accepted / data.n;
    const words = data.threshold[step];
    put("threshold", words);
    put("coverage", percent(coverage));
    put("coverage-rows", whole(accepted) + " of " + whole(data.n) + " inputs");
    put("escalated", percent(1 - coverage));
    put("escalated-rows", whole(data.n - accepted) + " of " + whole(data.n) + " inputs");
    if (data.accuracy) {
      put("accuracy", percent(data.accuracy[step]));
      put("accuracy-range", percent(data.accuracy_low[step]) + " to " + percent(data.accuracy_high[step]));
    }
    if (data.accuracy_words) put("accuracy-needs", said(data.accuracy_words, step));
    put("local-errors", data.risk_words ? said(data.risk_words, step)
      : data.risk[step] === null ? "\u2013" : fixed(data.risk[step], 1) + "\u00a0%");
    put("gain", points((gains - harms) / data.n));
    put("gain-range", data.guessed[step] ? data.worst
      : data.level + ": " + points(-data.loss_high[step]) + " to " + points(-data.loss_low[step]) + " points");
    put("harms", whole(harms));
    put("gains", whole(gains));
    put("guessed", data.guessed[step] ? whole(data.guessed[step]) + " of the lost only for lack of gold" : "");
    if (data.cost) {
      put("cost", money(data.cost[step]));
      const saved = data.large_cost ? 1 - data.cost[step] / data.large_cost : 0;
      put("cost-saved", "large model alone " + money(data.large_cost) + " (" + (saved < 0 ? "+" : "\u2212")
        + fixed(Math.abs(100 * saved), 0) + "\u00a0%)");
    }
    const state = find("state"), kind = data.states[data.state[step]];
    state.className = "state " + kind.kind;
    if (state.textContent !== kind.text) state.textContent = kind.text;
    put("why", kind.why);
    slider.setAttribute("aria-valuetext", "threshold " + words + ", " + percent(coverage) + " answered locally. " + kind.text);

    mark(charts.quality, 100 * (1 - coverage), data.quality[step]);
    mark(charts.risk, 100 * coverage, data.risk ? data.risk[step] : null);

    for (const table of tables) {
      for (const row of table.rows) {
        const part = table.parts[Number(row.dataset.part)], cell = row.cells;
        const share = part.accepted[step] / part.n;
        cell[2].firstElementChild.textContent = percent(share);
        cell[2].lastElementChild.value = share;
        cell[3].textContent = part.words ? said(part.words, step) : part.known ? percent(part.right[step] / part.known) : "\u2013";
        cell[5].textContent = whole(part.harms[step]);
        cell[6].textContent = whole(part.gains[step]);
        signed(cell[7].firstElementChild, (part.gains[step] - part.harms[step]) / part.n);
      }
    }
    let shown = 0;
    for (const item of lost) {
      const there = item.from <= step && step < item.to;
      item.row.hidden = !there;
      if (there) shown += 1;
    }
    put("lost-count", harms === 0 ? "Nothing is lost at this threshold."
      : shown === harms ? whole(harms) + (harms === 1 ? " input is" : " inputs are") + " lost at this threshold."
      : whole(harms) + " inputs are lost at this threshold; " + whole(shown) + " of them are in this file.");
  };

  const go = (step) => { slider.value = String(step); show(step); };
  slider.addEventListener("input", () => show(Number(slider.value)));
  for (const button of document.querySelectorAll("button[data-step]")) {
    button.addEventListener("click", () => go(Number(button.dataset.step)));
  }

  const pick = (chart, toAccepted) => {
    if (!chart) return;
    const move = (event) => {
      const box = chart.getBoundingClientRect(), d = chart.dataset;
      const px = (event.clientX - box.left) / box.width * chart.viewBox.baseVal.width;
      const x = Number(d.x0) + (px - d.left) / (d.right - d.left) * (d.x1 - d.x0);
      const wanted = toAccepted(x / 100) * data.n;
      let best = 0;
      for (let step = 1; step < steps; step += 1) {
        if (Math.abs(data.accepted[step] - wanted) < Math.abs(data.accepted[best] - wanted)) best = step;
      }
      go(best);
    };
    chart.classList.add("live");
    chart.addEventListener("pointerdown", (event) => { chart.setPointerCapture(event.pointerId); move(event); });
    chart.addEventListener("pointermove", (event) => { if (event.buttons) move(event); });
  };
  pick(charts.quality, (x) => 1 - x);
  pick(charts.risk, (x) => x);

  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th"), column = head.cellIndex, body = head.closest("table").tBodies[0];
      const up = head.getAttribute("aria-sort") === "descending";
      for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const value = (row) => {
        const text = row.cells[column].textContent;
        const number = Number.parseFloat(text.replace("\u2212", "-").replace(/[^0-9.-]/g, ""));
        return column === 0 || Number.isNaN(number) ? text : number;
      };
      const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
      const rows = Array.from(body.rows);
      rows.sort((a, b) => (up ? 1 : -1) * compare(value(a), value(b)));
      body.append(...rows);
    });
  }
  window.addEventListener("beforeprint", () => { for (const part of document.querySelectorAll("details")) part.open = true; });
  document.documentElement.dataset.ready = "yes";
  show(Number(slider.value));
})();
