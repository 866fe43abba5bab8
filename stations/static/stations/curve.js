/* Draws a session's power, energy and state of charge; draws on while it charges. */
(() => {
  "use strict";
  const box = document.getElementById("curve");
  if (!box) return;
  let plot = null;
  let timer = 0;

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const dark = () => document.documentElement.classList.contains("dark");

  function options(data) {
    const line = dark() ? "rgba(255,255,255,.08)" : "rgba(0,0,0,.07)";
    const ink = color("--soft") || "#888";
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px Inter, sans-serif" };
    const clock = (t) => new Date(t * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    const series = [
      { label: box.dataset.time, value: (_u, t) => (t == null ? "–" : clock(t)) },
      { label: box.dataset.power, stroke: color("--blue-dot"), width: 2, fill: dark() ? "rgba(80,140,255,.14)" : "rgba(50,110,240,.09)", scale: "kW", value: (_u, v) => (v == null ? "–" : v.toFixed(2)), spanGaps: true },
      { label: box.dataset.energy, stroke: color("--green-dot"), width: 2, scale: "kWh", value: (_u, v) => (v == null ? "–" : v.toFixed(3)), spanGaps: true },
    ];
    if (data.length > 3) series.push({ label: box.dataset.soc, stroke: color("--violet-dot"), width: 1.5, dash: [4, 4], scale: "%", value: (_u, v) => (v == null ? "–" : v.toFixed(0)), spanGaps: true });
    return {
      width: box.clientWidth,
      height: 260,
      series,
      scales: { kW: { range: (_u, _low, high) => [0, Math.max(1, high * 1.1 || 1)] }, kWh: { range: (_u, _low, high) => [0, Math.max(0.1, high * 1.1 || 1)] }, "%": { range: [0, 100] } },
      axes: [{ ...axis, values: (_u, list) => list.map(clock) }, { ...axis, scale: "kW", size: 46, values: (_u, list) => list.map((v) => `${v}`) }, { ...axis, scale: "kWh", side: 1, grid: { show: false }, size: 46 }],
      cursor: { points: { size: 7 } },
      legend: { live: true },
    };
  }

  async function load() {
    const answer = await fetch(box.dataset.src, { credentials: "same-origin" }).catch(() => null);
    if (!answer || !answer.ok) return;
    const got = await answer.json();
    if (!got.at.length) {
      if (!plot) box.innerHTML = `<div class="empty"><span class="material-symbols-outlined" aria-hidden="true">show_chart</span><p>${box.dataset.empty}</p></div>`;
      return;
    }
    const data = [got.at, got.power_w.map((w) => (w == null ? null : w / 1000)), got.energy_wh.map((wh) => (wh == null ? null : wh / 1000))];
    if (got.soc_percent.some((v) => v != null)) data.push(got.soc_percent);
    if (plot && plot.series.length === data.length) {
      plot.setData(data);
    } else {
      box.innerHTML = "";
      plot = new uPlot(options(data), data, box);
    }
  }

  document.addEventListener("live:changed", (event) => {
    if (event.detail.topic !== box.dataset.topic || timer) return;
    timer = setTimeout(() => { timer = 0; load(); }, 1500);
  });
  new ResizeObserver(() => plot && plot.setSize({ width: box.clientWidth, height: 260 })).observe(box);
  new MutationObserver(() => { if (plot) { plot.destroy(); plot = null; load(); } }).observe(document.documentElement, { attributeFilter: ["class"] });
  load();
})();
