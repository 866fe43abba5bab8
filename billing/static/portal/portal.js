/* Keeps a page fresh. <div id="x" data-live="s:TOKEN" data-poll="10"> is fetched anew when the server
 * says that it changed (server-sent events), and at least every data-poll seconds. Without this file
 * every page still works: it is reloaded by hand or by a meta refresh. */
(() => {
  "use strict";
  const regions = () => [...document.querySelectorAll("[data-poll]")].filter((el) => el.id);
  let lost = null;

  const tellLost = (text) => {
    if (text && !lost) {
      lost = document.createElement("p");
      lost.className = "lost";
      lost.setAttribute("role", "status");
      lost.textContent = text;
      document.body.append(lost);
    } else if (!text && lost) {
      lost.remove();
      lost = null;
    }
  };

  let running = false;
  async function refresh() {
    if (running || document.hidden) return;
    running = true;
    try {
      const answer = await fetch(location.href, { headers: { "X-Refresh": "1" }, credentials: "same-origin" });
      if (answer.redirected) { location.assign(answer.url); return; }
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const el of regions()) {
        const now = fresh.getElementById(el.id);
        // An opened “Stop?” question is not taken from under the driver's finger.
        if (!now || el.querySelector("details[open]")) continue;
        if (now.innerHTML !== el.innerHTML) el.innerHTML = now.innerHTML;
        el.className = now.className;
        for (const name of ["live", "poll"]) {
          if (now.dataset[name] === undefined) delete el.dataset[name];
          else el.dataset[name] = now.dataset[name];
        }
      }
      if (fresh.title) document.title = fresh.title;
      tellLost("");
    } catch {
      tellLost(navigator.onLine ? "…" : "⚠ offline");
    } finally {
      running = false;
      subscribe();
      plan();
    }
  }

  let timer = 0;
  function plan() {
    clearTimeout(timer);
    const waits = regions().map((el) => Number(el.dataset.poll)).filter(Boolean);
    if (waits.length) timer = setTimeout(refresh, Math.min(...waits) * 1000);
  }

  let source = null;
  let heard = "";
  function subscribe() {
    const topics = [...new Set(regions().flatMap((el) => (el.dataset.live || "").split(",")).filter(Boolean))].join(",");
    if (topics === heard) return;
    source?.close();
    heard = topics;
    source = topics ? new EventSource(`/live/?topics=${encodeURIComponent(topics)}`) : null;
    source?.addEventListener("changed", () => { clearTimeout(timer); refresh(); });
  }

  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  const language = document.getElementById("language");
  language?.addEventListener("change", () => language.form.submit());
  document.querySelector(".languages button")?.setAttribute("hidden", "");
  subscribe();
  plan();
})();
