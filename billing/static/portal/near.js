/* The list's form: chosen filters apply at once, and "Near me" asks the browser where it is. The
 * position is rounded to some hundred metres before it is sent. Without this file Search does it. */
(() => {
  "use strict";
  const form = document.querySelector("form[data-filter]");
  if (!(form instanceof HTMLFormElement)) return;
  const near = form.querySelector("[data-near]");
  const said = form.querySelector("[data-near-error]");
  const at = form.elements.namedItem("at");
  form.addEventListener("change", (event) => {
    if (event.target instanceof Element && event.target.matches("select, [type=checkbox]")) form.requestSubmit();
  });
  if (!navigator.geolocation || !near || !(at instanceof HTMLInputElement)) return;
  near.removeAttribute("hidden");
  near.setAttribute("aria-pressed", String(at.value !== ""));
  near.addEventListener("click", () => {
    if (at.value) { // pressed again: no longer by distance
      at.disabled = true;
      form.requestSubmit();
      return;
    }
    near.setAttribute("aria-busy", "true");
    navigator.geolocation.getCurrentPosition(
      ({ coords }) => {
        at.value = `${coords.latitude.toFixed(3)},${coords.longitude.toFixed(3)}`;
        at.disabled = false;
        form.requestSubmit();
      },
      () => {
        near.removeAttribute("aria-busy");
        said.textContent = near.dataset.refused;
        said.hidden = false;
      },
      { maximumAge: 60000, timeout: 10000 },
    );
  });
})();
