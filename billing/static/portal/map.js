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
    land.features.forEach((country) => whole(country.geometry));
    L.geoJSON(land, { interactive: false, style: { className: "land" } }).addTo(map).bringToBack();
  }).catch(() => {});
  // Russia and Fiji reach over the date line: drawn on one side of it, or a line crosses the map.
  function whole(geometry) {
    const parts = geometry.type === "Polygon" ? [geometry.coordinates] : geometry.coordinates;
    for (const part of parts) {
      const all = part.flat().map((point) => point[0]);
      if (Math.max(...all) - Math.min(...all) < 180) continue;
      for (const ring of part) for (const point of ring) if (point[0] < 0) point[0] += 360;
    }
  }
  for (const p of points) {
    const icon = L.divIcon({ className: "", iconSize: [38, 38], iconAnchor: [19, 44], html: `<span class="pin${p.free ? "" : " none"}"><b>${Number(p.free)}</b></span>` });
    L.marker([p.lat, p.lon], { icon, title: p.name, keyboard: false }).addTo(map)
      .on("click", () => document.getElementById(p.anchor)?.scrollIntoView({ behavior: "smooth", block: "center" }));
  }
})();
