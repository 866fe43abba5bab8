/* The map of the public stations on a bundled outline: no tiles from outside, nothing is told to anyone. */
(() => {
  "use strict";
  const box = document.getElementById("map");
  const data = document.getElementById("points");
  if (!box || !data || !window.L) return;
  const points = JSON.parse(data.textContent || "[]");
  const map = L.map(box, { attributionControl: false, scrollWheelZoom: false, minZoom: 2, maxZoom: 16 });
  const places = points.map((p) => [p.lat, p.lon]);
  map.fitBounds(L.latLngBounds(places).pad(0.35), { maxZoom: 6 });
  fetch(box.dataset.outline).then((answer) => answer.json()).then((world) => {
    const land = topojson.feature(world, world.objects.countries);
    L.geoJSON(land, { interactive: false, style: { className: "land" } }).addTo(map).bringToBack();
  }).catch(() => {});
  for (const p of points) {
    const icon = L.divIcon({ className: "", iconSize: [38, 38], iconAnchor: [19, 44], html: `<span class="pin${p.free ? "" : " none"}"><b>${Number(p.free)}</b></span>` });
    L.marker([p.lat, p.lon], { icon, title: p.name, keyboard: false }).addTo(map)
      .on("click", () => document.getElementById(p.anchor)?.scrollIntoView({ behavior: "smooth", block: "center" }));
  }
})();
