/* Maps of the back office: the fleet by site, and the position of one site.
 *
 * The base map is a bundled outline of the countries; a tile server is asked only where the
 * operator has named one (data-tiles). Colours follow the page's theme by CSS.
 */
(() => {
  "use strict";

  // Russia and Fiji reach over the date line: drawn on one side of it, or a line crosses the map.
  function whole(geometry) {
    const parts = geometry.type === "Polygon" ? [geometry.coordinates] : geometry.coordinates;
    for (const part of parts) {
      const all = part.flat().map((point) => point[0]);
      if (Math.max(...all) - Math.min(...all) < 180) continue;
      for (const ring of part) for (const point of ring) if (point[0] < 0) point[0] += 360;
    }
  }

  async function base(map, box) {
    if (box.dataset.tiles) {
      L.tileLayer(box.dataset.tiles, { maxZoom: 19, attribution: box.dataset.attribution || "" }).addTo(map);
      return;
    }
    const answer = await fetch(box.dataset.outline).catch(() => null);
    if (!answer || !answer.ok) return;
    const world = await answer.json();
    const shapes = topojson.feature(world, world.objects.countries);
    shapes.features.forEach((country) => whole(country.geometry));
    const pane = map.createPane("outline");
    pane.style.zIndex = 200;
    L.geoJSON(shapes, { pane: "outline", interactive: false, renderer: L.svg({ pane: "outline", padding: 0.5 }), style: { className: "country", fillOpacity: 1, opacity: 1 } }).addTo(map);
    map.attributionControl.addAttribution("Natural Earth");
  }

  const ORDER = ["faulted", "offline", "busy", "charging", "available"];
  const COLORS = { available: "var(--green-dot)", charging: "var(--blue-dot)", busy: "var(--amber-dot)", faulted: "var(--red-dot)", offline: "var(--grey-dot)" };

  // A pin is a ring of the shares of its connectors, with their number inside.
  function pin(counts) {
    const total = Object.values(counts).reduce((sum, n) => sum + n, 0);
    let from = 0;
    const parts = ORDER.slice().reverse().filter((key) => counts[key]).map((key) => {
      const to = from + (counts[key] / total) * 360;
      const part = `${COLORS[key]} ${from}deg ${to}deg`;
      from = to;
      return part;
    });
    const size = Math.round(30 + Math.min(16, Math.sqrt(total) * 3));
    return L.divIcon({
      className: "",
      iconSize: [size, size],
      html: `<div class="pin" style="width:${size}px;height:${size}px;background:conic-gradient(${parts.join(",") || "var(--grey-dot) 0 360deg"})"><span>${total}</span></div>`,
    });
  }

  const sum = (markers) => {
    const all = {};
    for (const one of markers) for (const [key, n] of Object.entries(one.options.counts)) all[key] = (all[key] || 0) + n;
    return all;
  };

  function fleet(box) {
    const map = L.map(box, { scrollWheelZoom: false, worldCopyJump: true, zoomSnap: 0.5, maxZoom: 18, minZoom: 2 });
    map.attributionControl.setPrefix(false);
    map.setView([50, 10], 4);
    base(map, box);
    new ResizeObserver(() => map.invalidateSize()).observe(box);
    const cluster = L.markerClusterGroup({ showCoverageOnHover: false, maxClusterRadius: 46, iconCreateFunction: (c) => pin(sum(c.getAllChildMarkers())) });
    map.addLayer(cluster);
    let framed = false;
    function draw() {
      const sites = JSON.parse(document.getElementById("fleet-sites").textContent);
      cluster.clearLayers();
      for (const site of sites) {
        const marker = L.marker([site.at[0], site.at[1]], { icon: pin(site.counts), counts: site.counts, title: site.name, alt: site.name, keyboard: true });
        const words = document.createElement("div");
        const link = document.createElement("a");
        link.href = site.url;
        link.className = "strong";
        link.textContent = site.name;
        words.append(link);
        for (const [label, n] of site.words) {
          const line = document.createElement("div");
          line.textContent = `${n} ${label}`;
          words.append(line);
        }
        marker.bindPopup(words);
        cluster.addLayer(marker);
      }
      if (!framed && sites.length) {
        map.fitBounds(L.latLngBounds(sites.map((site) => site.at)).pad(0.35), { maxZoom: 7 });
        framed = true;
      }
    }
    draw();
    let drawn = document.getElementById("fleet-sites").textContent;
    document.addEventListener("live:refreshed", () => {
      const now = document.getElementById("fleet-sites").textContent;
      if (now !== drawn) { drawn = now; draw(); }
    });
  }

  function position(box) {
    const latitude = document.getElementById("id_latitude");
    const longitude = document.getElementById("id_longitude");
    const map = L.map(box, { scrollWheelZoom: true, maxZoom: 18, minZoom: 2 });
    map.attributionControl.setPrefix(false);
    base(map, box);
    const at = () => (latitude?.value && longitude?.value ? [Number(latitude.value), Number(longitude.value)] : null);
    map.setView(at() || [50, 10], at() ? 7 : 4);
    const marker = L.marker(at() || [50, 10], { draggable: Boolean(latitude), opacity: at() ? 1 : 0 }).addTo(map);
    if (!latitude) return;
    const put = ({ lat, lng }) => {
      latitude.value = lat.toFixed(6);
      longitude.value = lng.toFixed(6);
      marker.setLatLng([lat, lng]).setOpacity(1);
    };
    map.on("click", (event) => put(event.latlng));
    marker.on("dragend", () => put(marker.getLatLng()));
    for (const field of [latitude, longitude]) field.addEventListener("change", () => at() && (marker.setLatLng(at()).setOpacity(1), map.panTo(at())));
  }

  // The page is hidden until its framework has started: a map is made when its box has a size.
  function whenShown(box, make) {
    if (!box) return;
    const seen = new ResizeObserver(() => {
      if (!box.clientWidth) return;
      seen.disconnect();
      make(box);
    });
    seen.observe(box);
  }

  whenShown(document.getElementById("fleet-map"), fleet);
  whenShown(document.getElementById("site-map"), position);
})();
