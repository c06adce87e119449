"use strict";
// A team in the loop: the team's reward, and of one agent its readings, action and flags, with a moving cursor.
(() => {
  const { el, read, signed, choice, player, lines } = drigm;
  const known = values => values.filter(v => v !== null);
  function span(values) {
    const found = known(values);
    if (!found.length) return [0, 1];
    const low = Math.min(...found), high = Math.max(...found), more = 0.06 * (high - low) || Math.abs(high) * 0.05 || 1;
    return [low - more, high + more];
  }
  const short = x => (x === null ? "–" : signed(+x.toPrecision(4)));
  const ticks = ([low, high]) => [low + 0.1 * (high - low), high - 0.1 * (high - low)].map(at => ({ at, text: short(at) }));
  const two = values => (values.length > 1 ? values : [values[0], values[0]]);  // a line needs two points

  function start(root) {
    const data = read(root.dataset.source);
    let episode = data.episodes[0], agent = 0, movers = [], here = 0;
    const charts = el("div", { class: "pair" }), team = el("div", {}), now = el("p", { class: "readout" });
    const flags = el("div", { class: "flags" }), own = el("div", {});
    const when = i => {
      const step = episode.first + i * data.every, seconds = data.seconds === null ? null : Math.round(step * data.seconds);
      const two = x => String(x).padStart(2, "0"), clock = s => `${two(Math.floor(s / 3600))}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
      return `step ${step}` + (seconds === null ? "" : ` · ${clock(seconds)}`);
    };
    function chart(parent, alt, label, series, more) {
      const text = el("p", { class: "label" }, parent), range = span([...series.flatMap(s => s.values), ...(more || []).map(t => t.at)]);
      const n = series[0].values.length, last = episode.first + (n - 1) * data.every;
      const times = [[0, episode.first, "start"], [Math.max(1, n - 1), last, "end"]].map(([at, text, anchor]) => ({ at, text: `${text}`, anchor }));
      const move = lines(parent, { alt, range, height: 58, ticks: [...ticks(range), ...(more || [])], times, series: series.map(s => ({ ...s, values: two(s.values) })) });
      movers.push(i => { move(i); text.textContent = signed(label(i)); });
    }
    // Where flags were raised, a bar each; red where the fallback acted.
    function strip(parent, lived) {
      const n = episode.reward.length, W = 320, L = 34, svg = el("svg", { viewBox: `0 0 ${W} 14`, role: "img", "aria-label": `Steps with flags of ${data.agents[agent].name}` }, parent);
      const wide = (W - L - 4) / Math.max(1, n - 1), x = i => L + (W - L - 4) * i / Math.max(1, n - 1);
      el("line", { x1: L, x2: W - 4, y1: 12, y2: 12, stroke: "var(--rule)", "stroke-width": 1 }, svg);
      for (const [i, , fallback] of lived.flags) el("rect", { x: Math.max(L, x(i) - wide / 2), y: 2, width: Math.max(1.2, Math.min(W - 4, x(i) + wide / 2) - Math.max(L, x(i) - wide / 2)), height: 10, fill: fallback ? "var(--bad)" : "var(--c4)" }, svg);
    }
    function fill() {
      const who = data.agents[agent], lived = episode.agents[agent];
      movers = [];
      team.replaceChildren(); own.replaceChildren(); flags.replaceChildren();
      chart(team, "Team reward", i => `Team reward ${short(episode.reward[i])}, sum ${short(episode.sum[i])}`, [{ values: episode.reward, color: "var(--c2)" }]);
      const series = [{ values: lived.action, color: "var(--c0)" }, ...(lived.would ? [{ values: lived.would, color: "var(--c1)" }] : [])];
      const by = data.controller === null ? "" : ` of ${data.controller} (blue)`;
      chart(team, `Action of ${who.name}`, i => `${who.name}: action${by} ${who.words[lived.number[i]] ?? short(lived.action[i])}` +
        (lived.would ? `, the team would ${who.words[lived.wish[i]] ?? short(lived.would[i])} (orange)` : ""), series);
      el("p", { class: "label" }, team, `Steps with flags${lived.flags.length ? "; red: the fallback acted" : ": none"}`);
      strip(team, lived);
      who.readings.forEach((reading, r) => chart(own, `${reading.name} of ${who.name}`,
        i => `${reading.name} ${short(lived.readings[r][i])}${reading.unit ? ` ${reading.unit}` : ""}`, [{ values: lived.readings[r], color: "var(--c5)" }],
        reading.setpoint === null ? [] : [{ at: reading.setpoint, text: short(reading.setpoint), strong: true }]));
      const says = data.agents.map((one, a) => {
        const line = el("p", { class: "label" }, flags), found = new Map(episode.agents[a].flags.map(([i, text]) => [i, text]));
        return i => {
          const action = episode.agents[a].number[i];
          line.textContent = `${one.name}: ` + (action === null ? "has left" : signed(one.words[action] ?? action)) + (found.has(i) ? ` · ${found.get(i)}` : "");
        };
      });
      movers.push(i => says.forEach(f => f(i)));
    }
    const show = i => {
      here = i;
      movers.forEach(f => f(i));
      const over = i === episode.reward.length - 1 ? ` · ${episode.outcome}` : "";
      now.textContent = `Return so far ${short(episode.sum[i])}${over}`;
      return when(i);
    };
    choice(root, "Episode", data.episodes.map(e => e.title), 0, i => { episode = data.episodes[i]; fill(); controls.reset(episode.reward.length, 0); });
    choice(root, "Agent", data.agents.map(a => a.name), 0, i => { agent = i; fill(); movers.forEach(f => f(here)); });
    const controls = player(root, "steps of the episode", episode.reward.length, 0, 12, show);
    fill();
    charts.append(team, own);
    root.append(now, charts);
    el("p", { class: "label" }, root, "Every agent's action at this step, and its flags");
    root.append(flags);
    controls.draw();
  }
  document.querySelectorAll(".live.loop").forEach(start);
})();
