"use strict";
// Draws the charts. Colours are the page's own variables, so that dark mode and print need no second drawing.
(async () => {
  const page = document.documentElement;
  const font = getComputedStyle(document.body).fontFamily;
  const config = {
    background: null,
    font,
    mark: { color: "var(--series-1)" },
    view: { stroke: null },
    range: { category: Array.from({ length: 10 }, (_, index) => `var(--series-${index + 1})`) },
    axis: {
      labelColor: "var(--quiet)", titleColor: "var(--quiet)", labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500,
      titlePadding: 10, labelPadding: 6, gridColor: "var(--grid)", domainColor: "var(--line)", tickColor: "var(--line)",
      tickSize: 4, labelSeparation: 10,
    },
    axisX: { grid: false },
    axisY: { domain: false, ticks: false, tickCount: 6 },
    legend: {
      orient: "top", direction: "horizontal", columns: 4, labelColor: "var(--ink)", titleColor: "var(--quiet)",
      labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500, symbolSize: 90, symbolStrokeWidth: 2.25, labelLimit: 200,
    },
  };
  let state = "drawn";
  for (const [index, chart] of JSON.parse(document.getElementById("charts").textContent).entries()) {
    const place = document.getElementById(`chart-${index + 1}`);
    try {
      const { spec } = vegaLite.compile(chart, { config });
      // The interpreter takes the place of generated code, which the page's security policy forbids.
      const runtime = vega.parse(spec, undefined, { ast: true });
      const view = new vega.View(runtime, { expr: vega.expressionInterpreter, renderer: "svg", container: place, hover: true });
      await view.runAsync();
    } catch (error) {
      place.textContent = `This chart could not be drawn: ${error.message}`;
      place.classList.add("failed");
      state = "failed";
    }
  }
  page.dataset.charts = state;
})();
