"use strict";
// One day of a building: two floor plans coloured by temperature, charts with a moving cursor.
(() => {
  const { el, read, choice, player, heat, rgb, inkOn, lines } = drigm;

  function plan(parent, data) {
    const rooms = [], widest = Math.max(...data.floors.map(f => f.width)), digits = data.spread <= 1 ? 2 : 1;
    const box = el("div", { class: "floors" }, parent);
    for (const floor of data.floors) {
      // A floor of one zone, such as an attic, is drawn small beside the others.
      const single = floor.rooms.length === 1 && data.floors.length > 1, full = single ? 100 : 300;
      const scale = full / widest, w = floor.width * scale, h = floor.height * scale, left = (full - w) / 2;
      const cell = el("div", { class: single ? "single" : "storey" }, box);
      if (data.floors.length > 1) el("p", { class: "label" }, cell, floor.title);
      const svg = el("svg", { viewBox: `-1 -1 ${full + 2} ${(h + 2).toFixed(1)}`, class: "plan", role: "img",
        "aria-label": `Floor plan, ${floor.title}: zones coloured by temperature` }, cell);
      for (const room of floor.rooms) {
        const shape = el("polygon", { points: room.points.map(p => `${(left + p[0] * scale).toFixed(1)},${(p[1] * scale).toFixed(1)}`).join(" "),
          class: "room", "data-zone": room.zone, stroke: "var(--rule)", "stroke-width": 1.6, "stroke-linejoin": "round" }, svg);
        const title = el("title", {}, shape), size = single ? 13 : room.size * scale, texts = [];
        if (size) {
          const x = left + room.middle[0] * scale, top = room.middle[1] * scale - size * 1.15 * room.lines.length / 2;
          if (!single) room.lines.forEach((line, i) => texts.push(el("text", { x, y: top + size * (0.35 + 1.15 * i), "text-anchor": "middle", "font-size": size * 0.86 }, svg, line)));
          texts.push(el("text", { x, y: single ? h / 2 + 4 : top + size * (0.35 + 1.15 * room.lines.length), "text-anchor": "middle", "font-size": size, "font-weight": 700 }, svg));
        }
        rooms.push({ zone: room.zone, shape, title, texts });
      }
    }
    return temperatures => {
      for (const room of rooms) {
        const t = temperatures[room.zone], fill = heat((t - data.target) / data.spread);
        room.shape.setAttribute("fill", rgb(fill));
        room.title.textContent = `${data.zones[room.zone]}: ${t.toFixed(2)} °C`;
        room.texts.forEach(text => { text.style.fill = inkOn(fill); });
        if (room.texts.length) room.texts.at(-1).textContent = `${t.toFixed(digits)}°`;
      }
    };
  }

  function powers(parent, data, policy, times, colors) {
    const row = data.zones.length > 12 ? 12 : 22, L = 92, W = 320, H = row * data.zones.length + 16, n = policy.p[0].length;
    const svg = el("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "Power of each zone over the day, heating up, cooling down" }, parent);
    const x = i => L + (W - L - 4) * i / (n - 1);
    const bars = data.zones.map((name, z) => {
      const middle = row * (z + 0.5);
      if (row > 12 || data.zones.length <= 40) el("text", { x: 0, y: middle + 3, "font-size": Math.min(9.5, row * 0.75), style: `fill:${colors[z]}` }, svg, name.length > 17 ? name.slice(0, 16) + "…" : name);
      el("line", { x1: L, x2: W - 4, y1: middle, y2: middle, stroke: "var(--rule)", "stroke-width": 0.7 }, svg);
      for (const [sign, color] of [[1, "#e8772e"], [-1, "#2f86bd"]]) {
        const edge = policy.p[z].map((p, i) => `L${x(i).toFixed(1)},${(middle - Math.min(1, Math.max(0, p * sign / data.power)) * sign * (row / 2 - 1)).toFixed(1)}`);
        el("path", { d: `M${L},${middle}${edge.join("")}L${W - 4},${middle}Z`, fill: color }, svg);
      }
    });
    for (const tick of times) el("text", { x: x(tick.at), y: H - 4, "text-anchor": tick.anchor || "middle", "font-size": 9.5 }, svg, tick.text);
    const cursor = el("line", { y1: 0, y2: H - 14, stroke: "var(--ink)", "stroke-width": 1 }, svg);
    return i => { cursor.setAttribute("x1", x(i)); cursor.setAttribute("x2", x(i)); };
  }

  const span = (values, margin) => {
    const low = Math.min(...values), high = Math.max(...values), more = Math.max(margin, 0.06 * (high - low));
    return [low - more, high + more];
  };
  const ends = ([low, high]) => {
    const step = [0.5, 1, 2, 5, 10, 20].find(s => (high - low) / s <= 4) || 50, found = [];
    for (let v = Math.ceil(low / step) * step; v <= high; v += step) found.push({ at: v, text: `${+v.toFixed(1)}°` });
    return found;
  };

  function column(parent, data, state, side) {
    const box = el("div", { class: "policy" }, parent);
    const labels = data.days[0].policies.map(p => p.label);
    choice(box, side ? "Policy on the right" : "Policy on the left", labels, state.policy, i => { state.policy = i; state.redraw(); });
    const inside = el("div", {}, box);
    const colors = data.zones.map((_, z) => `var(--c${z % 8})`);
    let movers = [], readout;
    function fill() {
      const day = data.days[state.day()], policy = day.policies[state.policy], n = day.outdoor.length;
      const times = [0, 6, 12, 18, 24].map(h => ({ at: Math.min(n - 1, h / data.hours), text: `${h}`, anchor: h === 0 ? "start" : h === 24 ? "end" : "middle" }));
      inside.replaceChildren();
      readout = el("p", { class: "readout" }, inside);
      const paint = plan(inside, data);
      el("p", { class: "label" }, inside, "Zone temperatures (°C) over the hours, target dashed");
      const range = state.range();
      const ticks = ends(range).filter(t => Math.abs(t.at - data.target) > 0.12 * (range[1] - range[0]));
      const inner = lines(inside, { alt: `Zone temperatures of ${policy.label} over the day`, range, height: 104, times,
        ticks: [...ticks, { at: data.target, text: `${data.target}°`, strong: true }],
        series: policy.t.map((values, z) => ({ values, color: colors[z] })) });
      el("p", { class: "label" }, inside, `Power of each zone, to ±${Math.round(100 * data.power)} % of full power, over the hours: heating up, cooling down`);
      const power = powers(inside, data, policy, times, colors);
      movers = [inner, power, i => {
        const now = policy.t.map(zone => zone[i]);
        paint(now);
        const off = now.reduce((sum, t) => sum + Math.abs(t - data.target), 0) / now.length;
        readout.replaceChildren(`Score of the day `);
        el("b", {}, readout, policy.score.toFixed(3));
        readout.append(` · now ${off.toFixed(2)} K from target`);
      }];
    }
    fill();
    return { move: i => movers.forEach(f => f(i)), fill };
  }

  function legend(parent, data) {
    const svg = el("svg", { viewBox: "0 0 320 30", role: "img", style: "max-width:22rem", "aria-label": `Colours: blue ${data.spread} kelvin below target, white at target, orange ${data.spread} kelvin above` }, parent);
    for (let i = 0; i < 40; i++) el("rect", { x: 8 * i, y: 2, width: 8.2, height: 9, fill: rgb(heat(i / 19.5 - 1)) }, svg);
    [["start", 0, `${data.target - data.spread} °C`], ["middle", 160, `${data.target} °C`], ["end", 320, `${data.target + data.spread} °C`]]
      .forEach(([anchor, x, text]) => el("text", { x, y: 25, "font-size": 11, "text-anchor": anchor }, svg, text));
  }

  function start(root) {
    const data = read(root.dataset.source), n = data.days[0].outdoor.length;
    let day = 0, outdoor = () => {}, columns = [];
    const clock = i => {
      const minutes = Math.round(i * data.hours * 60);
      return `${String(Math.floor(minutes / 60)).padStart(2, "0")}:${String(minutes % 60).padStart(2, "0")}`;
    };
    const out = el("div", { class: "outdoor" }), pair = el("div", { class: "pair" });
    let here = data.still;
    const show = i => {
      here = i;
      outdoor(i);
      columns.forEach(c => c.move(i));
      return `${clock(i)} · ${data.days[day].outdoor[i].toFixed(1)} °C outside`;
    };
    choice(root, "Day", data.days.map(d => d.title), 0, i => { day = i; weather(); columns.forEach(c => c.fill()); controls.draw(); });
    const controls = player(root, "time of day", n, data.still, 24, show);
    function weather() {
      const values = data.days[day].outdoor, range = span(values, 1);
      out.replaceChildren();
      el("p", { class: "label" }, out, "Outdoor temperature (°C) over the hours of the day");
      outdoor = lines(out, { alt: "Outdoor temperature over the day", range, height: 58, ticks: ends(range),
        times: [0, 6, 12, 18, 24].map(h => ({ at: Math.min(n - 1, h / data.hours), text: `${h}`, anchor: h === 0 ? "start" : h === 24 ? "end" : "middle" })),
        series: [{ values, color: "var(--faint)" }] });
    }
    weather();
    root.append(out, pair);
    legend(root, data);
    const redraw = () => columns.forEach(c => { c.fill(); c.move(here); });
    // Both columns share their scale, so that they can be compared.
    const range = () => span([data.target, ...states.flatMap(s => data.days[day].policies[s.policy].t.flat())], 0.5);
    const states = [0, 1].slice(0, data.days[0].policies.length).map(policy => ({ policy, day: () => day, redraw, range }));
    columns = states.map((state, side) => column(pair, data, state, side));
    controls.draw();
  }
  document.querySelectorAll(".live.day").forEach(start);
})();
