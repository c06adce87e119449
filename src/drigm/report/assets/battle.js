"use strict";
// A battle: units on a map with health rings and attacks, and both teams' health over time.
(() => {
  const { el, read, choice, player, lines } = drigm;
  const SIDES = ["var(--c0)", "var(--c1)"];

  function arena(parent, battle) {
    const [left, low, width, height] = battle.box, s = 500 / width, H = Math.max(180, height * s), top = (H - height * s) / 2;
    const at = ([x, y]) => [(x - left) * s, H - top - (y - low) * s];
    const svg = el("svg", { viewBox: `0 0 500 ${H.toFixed(0)}`, role: "img", class: "arena", "aria-label": `Map of the battle, ${battle.label}` }, parent);
    el("rect", { x: 0, y: 0, width: 500, height: H, rx: 10, fill: "var(--paper)", stroke: "var(--rule)" }, svg);
    const shots = el("g", {}, svg);
    const units = battle.units.map((unit, u) => {
      const side = SIDES[u < battle.allies ? 0 : 1], r = Math.max(7, unit.radius * s), around = 2 * Math.PI * (r + 3);
      const g = el("g", { class: "unit" }, svg);
      const title = el("title", {}, g);
      el("circle", { r, fill: side, "fill-opacity": 0.85 }, g);
      el("circle", { r: r + 3, fill: "none", stroke: "var(--rule)", "stroke-width": 3 }, g);
      const ring = el("circle", { r: r + 3, fill: "none", stroke: side, "stroke-width": 3, transform: "rotate(-90)", "stroke-dasharray": `${around} ${around}` }, g);
      const letter = el("text", { "text-anchor": "middle", y: r * 0.35, "font-size": r * 1.05, "font-weight": 700 }, g, unit.type[0]);
      letter.style.fill = "var(--paper)";
      return { g, ring, around, title, letter };
    });
    return frame => {
      shots.replaceChildren();
      units.forEach((unit, u) => {
        const [x, y] = at(frame.x[u]), share = frame.h[u] / battle.units[u].full;
        unit.g.setAttribute("transform", `translate(${x.toFixed(1)},${y.toFixed(1)})`);
        unit.g.setAttribute("opacity", share > 0 ? 1 : 0.22);
        unit.letter.textContent = share > 0 ? battle.units[u].type[0] : "×";
        unit.ring.setAttribute("stroke-dasharray", `${(unit.around * share).toFixed(1)} ${unit.around.toFixed(1)}`);
        unit.title.textContent = `${battle.units[u].type} ${u < battle.allies ? "(team)" : "(enemy)"}: ${frame.h[u]} of ${battle.units[u].full}`;
        if (frame.a[u] < 0) return;
        const [tx, ty] = at(frame.x[frame.a[u]]);
        el("line", { x1: x, y1: y, x2: tx, y2: ty, stroke: SIDES[u < battle.allies ? 0 : 1], "stroke-width": frame.f[u] ? 3 : 1.2,
          "stroke-opacity": frame.f[u] ? 0.9 : 0.35, "stroke-dasharray": frame.f[u] ? "none" : "3 4", "stroke-linecap": "round" }, shots);
      });
    };
  }

  function healths(parent, battle) {
    const total = (frame, side) => frame.h.filter((_, u) => (u < battle.allies) === side).reduce((a, b) => a + b, 0);
    const full = side => total(battle.frames[0], side), n = battle.frames.length, seconds = (n - 1) * battle.seconds;
    el("p", { class: "label" }, parent, "Health left, in per cent of the start: blue the team, orange the enemy; seconds");
    return lines(parent, { alt: "Health of both teams over the battle", range: [0, 100], height: 110,
      ticks: [0, 50, 100].map(at => ({ at, text: `${at}` })),
      times: [0, 0.5, 1].map((x, i) => ({ at: x * (n - 1), text: `${+(x * seconds).toFixed(1)}`, anchor: ["start", "middle", "end"][i] })),
      series: [true, false].map((side, i) => ({ values: battle.frames.map(f => 100 * total(f, side) / full(side)), color: SIDES[i] })) });
  }

  function start(root) {
    const battles = read(root.dataset.source);
    let battle = battles[0], paint = () => {}, cursor = () => {};
    const middle = b => Math.floor((b.frames.length - 1) * 0.6);
    const stage = el("div", { class: "pair wide-left" }), readout = el("p", { class: "readout" });
    function fill() {
      stage.replaceChildren();
      paint = arena(el("div", {}, stage), battle);
      cursor = healths(el("div", {}, stage), battle);
    }
    const show = i => {
      const frame = battle.frames[i], count = side => frame.h.filter((h, u) => h > 0 && (u < battle.allies) === side).length;
      paint(frame);
      cursor(i);
      const over = i === battle.frames.length - 1 ? ` · battle ${battle.outcome}` : "";
      readout.textContent = `Team ${count(true)} of ${battle.allies}, enemy ${count(false)} of ${battle.units.length - battle.allies}${over}`;
      return `${(i * battle.seconds).toFixed(1)} s`;
    };
    choice(root, "Battle", battles.map(b => b.label), 0, i => { battle = battles[i]; fill(); controls.reset(battle.frames.length, 0); });
    fill();
    const controls = player(root, "time of the battle", battle.frames.length, middle(battle), 6, show);
    root.append(readout, stage);
    controls.draw();
  }
  document.querySelectorAll(".live.battle").forEach(start);
})();
