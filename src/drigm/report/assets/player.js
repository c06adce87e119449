"use strict";
// Shared by the parts that move: SVG elements, scales, and a slider with a play button.
const drigm = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const signed = text => `${text}`.replace(/(^|[\s(])-(?=\d)/g, "$1\u2212");
  function el(name, attributes, parent, text) {
    const html = ["div", "p", "span", "b", "button", "input", "output", "select", "option", "label"].includes(name);
    const made = html ? document.createElement(name) : document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = signed(text);
    if (parent) parent.append(made);
    return made;
  }
  function read(id) { return JSON.parse(document.getElementById(id).textContent); }
  function choice(parent, name, options, chosen, change) {
    const select = el("select", { "aria-label": name }, parent);
    options.forEach((label, i) => el("option", { value: i }, select, label));
    select.value = chosen;
    // What is chosen must be readable on paper too, where the control is hidden.
    const printed = el("p", { class: "only-print" }, parent, options[chosen]);
    select.addEventListener("change", () => { printed.textContent = options[+select.value]; change(+select.value); });
    return select;
  }
  // A slider over frames 0..count-1, a play button, and a label that `show(frame)` returns.
  function player(parent, what, count, start, perSecond, show) {
    const bar = el("div", { class: "controls" }, parent);
    const button = el("button", { type: "button", "aria-label": "Play " + what }, bar, "▶ Play");
    const range = el("input", { type: "range", min: 0, max: count - 1, value: start, "aria-label": what }, bar);
    const label = el("output", {}, bar);
    let timer = 0, last = 0, frames = count;
    function draw() {
      const text = signed(show(+range.value));
      label.textContent = text;
      range.setAttribute("aria-valuetext", text);
    }
    function stop() { if (timer) cancelAnimationFrame(timer); timer = 0; button.textContent = "▶ Play"; }
    function tick(now) {
      const steps = Math.floor((now - last) * perSecond / 1000);
      if (steps > 0) {
        last += steps * 1000 / perSecond;
        range.value = Math.min(frames - 1, +range.value + Math.min(steps, perSecond));
        draw();
        if (+range.value >= frames - 1) return stop();
      }
      timer = requestAnimationFrame(tick);
    }
    button.addEventListener("click", () => {
      if (timer) return stop();
      if (+range.value >= frames - 1) range.value = 0;
      last = performance.now();
      button.textContent = "❚❚ Pause";
      timer = requestAnimationFrame(tick);
    });
    range.addEventListener("input", () => { stop(); draw(); });
    return { bar, draw, reset(newCount, frame) {
      stop(); frames = newCount; range.max = newCount - 1; range.value = frame; draw();
    } };
  }
  function mix(a, b, x) { return a.map((v, i) => Math.round(v + (b[i] - v) * x)); }
  const STOPS = [[0, 73, 122], [78, 155, 203], [247, 247, 247], [240, 137, 74], [166, 63, 0]];
  // -1 cold, 0 right, 1 hot; as the colours of the still figures.
  function heat(x) {
    const at = (Math.max(-1, Math.min(1, x)) + 1) * 2, i = Math.min(3, Math.floor(at));
    return mix(STOPS[i], STOPS[i + 1], at - i);
  }
  const rgb = c => `rgb(${c.join(",")})`;
  const inkOn = c => (0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2] > 140 ? "#16181c" : "#ffffff");
  // A chart of lines over x = 0..n-1 with three ticks; returns a function that moves its cursor.
  function lines(parent, o) {
    const W = 320, H = o.height || 90, L = 34, R = 4, T = 6, B = 16;
    const svg = el("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": o.alt }, parent);
    const [low, high] = o.range, n = o.series[0].values.length;
    const x = i => L + (W - L - R) * i / (n - 1), y = v => T + (H - T - B) * (high - v) / ((high - low) || 1);
    for (const tick of o.ticks) {
      el("line", { x1: L, x2: W - R, y1: y(tick.at), y2: y(tick.at), stroke: "var(--rule)", "stroke-width": tick.strong ? 1.4 : 0.7,
        "stroke-dasharray": tick.strong ? "4 3" : "none" }, svg);
      el("text", { x: L - 4, y: y(tick.at) + 3, "text-anchor": "end", "font-size": 9.5 }, svg, tick.text);
    }
    for (const tick of o.times) el("text", { x: x(tick.at), y: H - 4, "text-anchor": tick.anchor || "middle", "font-size": 9.5 }, svg, tick.text);
    for (const s of o.series) {
      const points = s.values.map((v, i) => v === null ? "" : `${x(i).toFixed(1)},${y(Math.max(low, Math.min(high, v))).toFixed(1)}`);
      el("polyline", { points: points.join(" "), fill: "none", stroke: s.color, "stroke-width": 1.3, "stroke-linejoin": "round" }, svg);
    }
    const cursor = el("line", { y1: T, y2: H - B, stroke: "var(--ink)", "stroke-width": 1 }, svg);
    return i => { cursor.setAttribute("x1", x(i)); cursor.setAttribute("x2", x(i)); };
  }
  return { el, read, signed, choice, player, heat, rgb, inkOn, lines };
})();
