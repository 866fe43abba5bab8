/* Keeps a page fresh. <div id="x" data-live="s:TOKEN" data-poll="10"> is fetched anew when the server
 * says that it changed (server-sent events), and at least every data-poll seconds. Without this file
 * every page still works: it is reloaded by hand or by a meta refresh. */
(() => {
  "use strict";
  const regions = () => [...document.querySelectorAll("[data-poll]")].filter((el) => el.id);
  let lost = null;

  const tellLost = (text) => {
    if (text) {
      if (!lost) {
        lost = document.createElement("p");
        lost.className = "lost";
        lost.setAttribute("role", "status");
        document.body.append(lost);
      }
      if (lost.textContent !== text) lost.textContent = text;
    } else if (!text && lost) {
      lost.remove();
      lost = null;
    }
  };

  /* Paying became possible, or no longer is. A form that is there is told (pay.js); one that was
   * not offered comes with the whole page. */
  const offer = (el, now) => {
    if (now === undefined || now === el.dataset.offer) return;
    el.dataset.offer = now;
    const form = document.querySelector("form[data-pay]");
    if (form) form.dispatchEvent(new CustomEvent("offer", { detail: now === "yes" }));
    else if (now === "yes") location.reload();
  };

  let running = false;
  async function refresh() {
    if (running || document.hidden) return;
    running = true;
    try {
      const answer = await fetch(location.href, { headers: { "X-Refresh": "1" }, credentials: "same-origin" });
      if (answer.redirected) { location.assign(answer.url); return; }
      if (answer.status === 404) { location.reload(); return; } // the link has expired: its page says so
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const el of regions()) {
        const now = fresh.getElementById(el.id);
        // An opened “Stop?” question is not taken from under the driver's finger.
        if (!now && el.dataset.whole !== undefined) { location.reload(); return; } // a page of another kind
        if (!now || el.querySelector("details[open]")) continue;
        if (now.innerHTML !== el.innerHTML) el.innerHTML = now.innerHTML;
        el.className = now.className;
        for (const name of ["live", "poll"]) {
          if (now.dataset[name] === undefined) delete el.dataset[name];
          else el.dataset[name] = now.dataset[name];
        }
        offer(el, now.dataset.offer);
      }
      if (fresh.title) document.title = fresh.title;
      tellLost("");
    } catch {
      const said = document.body.dataset;
      tellLost((navigator.onLine ? said.lost : said.offline) || "⚠");
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
  addEventListener("online", refresh);
  addEventListener("offline", () => { if (regions().length) tellLost(document.body.dataset.offline || "⚠"); });
  const language = document.getElementById("language");
  language?.addEventListener("change", () => language.form.submit());
  document.querySelector(".languages button")?.setAttribute("hidden", "");
  subscribe();
  plan();
})();
