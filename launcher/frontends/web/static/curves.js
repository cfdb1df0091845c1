"use strict";
// Draws the charts of a page with the chart library, from the data beside them. A chart keeps its zoom when its
// part of the page is renewed.

(() => {
  const drawn = new Map(); // key of a chart → its element and the data that it shows
  const COLOURS = 8;
  const LINES = 12; // of the values under the pointer
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function traces(plot) {
    const bands = [], behind = [], lines = [];
    plot.lines.forEach((line, n) => {
      const own = colour(`--c${line.colour % COLOURS}`);
      const common = { type: "scatter", hoverinfo: "skip", showlegend: false };
      if (line.low) bands.push({
        ...common, mode: "lines", line: { width: 0 }, fill: "toself", fillcolor: `${own}2e`,
        x: [...line.x, ...line.x.toReversed()], y: [...line.high, ...line.low.toReversed()],
      });
      if (line.behind) behind.push({ ...common, mode: "lines", opacity: 0.3, line: { color: own, width: 1 }, ...line.behind });
      lines.push({
        ...common, hoverinfo: "none", meta: n, x: line.x, y: line.y, mode: line.x.length === 1 ? "markers" : "lines",
        line: { color: own, width: 1.7, dash: line.dashed ? "dash" : "solid" }, marker: { color: own, size: 6 },
      });
    });
    return [...bands, ...behind, ...lines];
  }

  function layout(plot) {
    const rule = colour("--rule"), dim = colour("--dim");
    const axis = { zeroline: false, gridcolor: rule, linecolor: dim, automargin: true };
    const title = (text) => ({ text: text.replaceAll("&", "&amp;").replaceAll("<", "&lt;"), standoff: 6, font: { size: 11 } });
    return {
      autosize: true, showlegend: false, hovermode: "x", hoverdistance: -1, spikedistance: -1, dragmode: "zoom",
      uirevision: "kept", // the zoom, when the data change
      margin: { l: 56, r: 10, t: 8, b: 42 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 11, color: dim },
      xaxis: { ...axis, title: title(plot.x), showgrid: false, showline: true, separatethousands: true, showspikes: true, spikemode: "across",
        spikethickness: 1, spikedash: "dot", spikecolor: dim, spikesnap: "hovered data" },
      yaxis: { ...axis, title: title(plot.y), type: plot.log ? "log" : "linear", exponentformat: "e", nticks: 6 },
    };
  }

  const rounded = (value) => `${Number(value.toPrecision(4))}`;

  // of each line the nearest point; a line that has ended before, or begins later, has none
  function text(plot, points, at) {
    const own = points.filter((point) => point.data.meta !== undefined).sort((a, b) => a.data.meta - b.data.meta);
    if (!own.length) return "";
    const here = own.reduce((best, point) => (Math.abs(point.x - at) < Math.abs(best.x - at) ? point : best)).x;
    const named = (x) => {
      const first = Math.floor(x / plot.pooled) * plot.pooled;
      return plot.pooled > 1 ? `${plot.x}s ${first} to ${first + plot.pooled - 1}` : `${plot.x} ${x}`;
    };
    const spans = ({ x }) => x[0] <= here && here <= x[x.length - 1];
    const lines = own.filter((point) => spans(plot.lines[point.data.meta])).map((point) => {
      const line = plot.lines[point.data.meta], n = point.pointNumber;
      const jobs = line.jobs?.[n] ?? 1;
      const range = jobs > 1 ? `  ${rounded(line.low[n])} to ${rounded(line.high[n])}, n = ${jobs}` : "";
      return `${line.name}  ${rounded(line.y[n])}${range}${point.x === here ? "" : ` (${named(point.x)})`}`;
    });
    return [named(here), ...lines.slice(0, LINES)].join("\n");
  }

  function readOut(chart, event) {
    const figure = chart.place.closest("figure");
    figure?.querySelector(".read-out")?.remove();
    const shown = event ? text(chart.plot, event.points, event.xvals?.[0] ?? event.points[0].x) : "";
    if (!shown || !figure) return;
    const out = document.createElement("div");
    out.className = "read-out";
    out.textContent = shown;
    figure.append(out);
  }

  const config = { displayModeBar: false, responsive: true, showTips: false, doubleClick: "reset" };

  async function draw(figure) {
    const place = figure.querySelector(".drawing");
    if (!place) return;
    const key = figure.dataset.key, data = figure.dataset.plot;
    let chart = drawn.get(key);
    if (chart) {
      place.replaceWith(chart.place);
      if (chart.data === data && chart.dark === dark.matches) return;
    } else {
      place.replaceChildren();
      chart = { place };
      drawn.set(key, chart);
    }
    const begins = !chart.data;
    Object.assign(chart, { data, plot: JSON.parse(data), dark: dark.matches });
    await Plotly.react(chart.place, traces(chart.plot), layout(chart.plot), config);
    if (!begins) return;
    // a finger moves the page, also over a chart
    chart.place.addEventListener("touchstart", (event) => event.stopPropagation(), { capture: true, passive: true });
    for (const name of ["plotly_hover", "plotly_click"]) chart.place.on(name, (event) => readOut(chart, event));
    chart.place.on("plotly_unhover", () => readOut(chart, null));
  }

  function drawAll() {
    for (const figure of document.querySelectorAll("figure[data-plot]")) draw(figure);
  }

  if (!window.Plotly) {
    document.documentElement.classList.add("no-charts");
    return;
  }
  document.addEventListener("renewed", drawAll);
  dark.addEventListener("change", drawAll);
  drawAll();
})();
