"use strict";
// A year of a supply chain: stocks and orders of every stage, charts with a moving cursor, two policies side by side.
(() => {
  const { el, read, choice, player, lines } = drigm;
  const high = series => Math.max(1, ...series.flat());
  const round = top => { const step = [1, 2, 5, 10, 20, 50, 100, 200, 500].find(s => top / s <= 3) || 1000; return [0, step, 2 * step, 3 * step].filter(at => at <= top).map(at => ({ at, text: `${at}` })); };

  function column(parent, data, state, side) {
    const box = el("div", { class: "policy" }, parent);
    choice(box, side ? "Policy on the right" : "Policy on the left", data.worlds[0].policies.map(p => p.label), state.policy, i => { state.policy = i; state.redraw(); });
    const inside = el("div", {}, box);
    let movers = [];
    function fill() {
      const policy = state.world().policies[state.policy], weeks = policy.hand[0].length;
      const times = [0, 0.5, 1].map((x, i) => ({ at: Math.round(x * (weeks - 1)), text: `${Math.round(x * (weeks - 1)) + 1}`, anchor: ["start", "middle", "end"][i] }));
      inside.replaceChildren();
      const readout = el("p", { class: "readout" }, inside, "Score of the year ");
      el("b", {}, readout, policy.score.toFixed(3));
      movers = data.stages.map((stage, n) => {
        const label = el("p", { class: "label" }, inside), tops = state.tops(n);
        const chart = (alt, range, series) => lines(inside, { alt: `${stage}: ${alt}, ${policy.label}`, range: [0, range], height: 62, ticks: round(range), times, series });
        const stock = chart("on hand and owed", tops[0], [{ values: policy.hand[n], color: "var(--c0)" }, { values: policy.owed[n], color: "var(--c1)" }]);
        const order = chart("ordered and received orders", tops[1], [{ values: policy.received[n], color: "var(--faint)" }, { values: policy.order[n], color: "var(--c2)" }]);
        const ratio = policy.bullwhip[n] === null ? "" : `, bullwhip ${policy.bullwhip[n].toFixed(2)}`;
        return i => {
          stock(i); order(i);
          label.textContent = `${stage}: on hand ${policy.hand[n][i]} (blue), owes ${policy.owed[n][i]} (orange); orders ${policy.order[n][i]} (green), asked for ${policy.received[n][i]} (grey)${ratio}`;
        };
      });
    }
    fill();
    return { move: i => movers.forEach(f => f(i)), fill };
  }

  function start(root) {
    const data = read(root.dataset.source), weeks = data.worlds[0].policies[0].hand[0].length;
    let world = 0, here = 0, columns = [];
    const pair = el("div", { class: "pair" });
    const show = i => { here = i; columns.forEach(c => c.move(i)); return `week ${i + 1}`; };
    choice(root, "World", data.worlds.map(w => w.title), 0, i => { world = i; columns.forEach(c => c.fill()); controls.draw(); });
    const controls = player(root, "weeks", weeks, 0, 6, show);
    root.append(pair);
    const redraw = () => columns.forEach(c => { c.fill(); c.move(here); });
    // Both columns share their scales, so that they can be compared.
    const shown = () => states.map(s => data.worlds[world].policies[s.policy]);
    const tops = n => [high(shown().flatMap(p => [p.hand[n], p.owed[n]])), high(shown().flatMap(p => [p.order[n], p.received[n]]))];
    const states = [0, 1].map(policy => ({ policy, world: () => data.worlds[world], redraw, tops }));
    columns = states.map((state, side) => column(pair, data, state, side));
    controls.draw();
  }
  document.querySelectorAll(".live.supply").forEach(start);
})();
