/* Keeps an open page true: subscribes to /live/ and fetches again what changed.
 *
 * <div id="now" data-live="station-5,session-17" data-live-every="1" data-live-src="/…">
 *
 * When one of the topics is touched, the source (default: this page) is fetched and the element of
 * the same id is morphed into the new one: focus, scroll and chosen boxes stay. A page without a
 * working stream asks every 15 s instead. Hidden tabs hold no connection and catch up when shown.
 */
(() => {
  "use strict";
  const POLL_MS = 15000;
  const HIDDEN_MS = 20000;
  let source = null;
  let subscribed = "";
  let switched = 0; // when the stream was last opened anew
  let healthy = false;
  let hideTimer = 0;
  const waiting = new WeakMap(); // element → timer of its next refresh
  const last = new WeakMap(); // element → when it was refreshed

  const regions = () => [...document.querySelectorAll("[data-live]")];
  const topicsOf = (el) => el.dataset.live.split(",").filter(Boolean);

  /* --- moments -------------------------------------------------------------------------- */
  const relative = new Intl.RelativeTimeFormat(document.documentElement.lang || "en", { numeric: "auto", style: "short" });
  const steps = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const styles = {
    short: { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
    time: { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" },
    long: { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" },
    day: { weekday: "long", year: "numeric", month: "long", day: "numeric" },
  };
  function tellTimes(root) {
    const now = Date.now();
    for (const el of root.querySelectorAll("time.ago")) {
      const at = new Date(el.dateTime);
      const seconds = Math.round((at - now) / 1000);
      const [unit, size] = steps.find(([, n]) => Math.abs(seconds) >= n) || ["second", 1];
      const text = relative.format(Math.trunc(seconds / size), unit);
      if (el.textContent !== text) el.textContent = text;
      el.title = at.toLocaleString();
    }
    for (const el of root.querySelectorAll("time.moment:not([data-told])")) {
      const at = new Date(el.dateTime);
      let style = el.dataset.style;
      if (style === "smart") style = at.toDateString() === new Date().toDateString() ? "time" : "long";
      el.textContent = at.toLocaleString(undefined, styles[style] || styles.short);
      el.title = `${at.toISOString().replace("T", " ").slice(0, 19)} UTC`;
      el.dataset.told = "1";
    }
    for (const el of root.querySelectorAll("[data-since]")) {
      const seconds = Math.max(0, Math.floor((now - new Date(el.dataset.since)) / 1000));
      const h = Math.floor(seconds / 3600), m = Math.floor((seconds % 3600) / 60), s = seconds % 60;
      const text = h ? `${h} h ${String(m).padStart(2, "0")} min` : `${m} min ${String(s).padStart(2, "0")} s`;
      if (el.textContent !== text) el.textContent = text;
    }
  }

  /* --- refreshing ----------------------------------------------------------------------- */
  const keep = {
    morphStyle: "outerHTML",
    ignoreActiveValue: true,
    callbacks: {
      // What the reader is doing stays: chosen rows, open menus and rows, running charts.
      beforeNodeMorphed: (old) =>
        !(old.nodeType === 1 && (old.matches("input.action-select, [data-keep]") || old.tagName === "TEMPLATE")),
      beforeAttributeUpdated: (name, el, type) => !(name === "style" || name === "x-cloak" || (name === "open" && el.tagName === "DETAILS") || (name === "class" && el.matches("[x-bind\\:class]"))),
    },
  };

  async function refresh(el) {
    last.set(el, Date.now());
    const url = el.dataset.liveSrc || location.href;
    let html;
    try {
      const answer = await fetch(url, { headers: { "X-Live": "1" }, credentials: "same-origin" });
      if (!answer.ok || answer.redirected) return;
      html = await answer.text();
    } catch {
      return;
    }
    if (!el.isConnected) return;
    const fresh = new DOMParser().parseFromString(html, "text/html").getElementById(el.id);
    if (!fresh) return;
    tellTimes(fresh);
    const before = new Map([...el.querySelectorAll("[data-flash]")].map((one) => [one.dataset.flash, one.textContent]));
    window.Idiomorph.morph(el, fresh, keep);
    const now = document.getElementById(fresh.id) || el;
    last.set(now, Date.now());
    for (const one of now.querySelectorAll("[data-flash]")) {
      const was = before.get(one.dataset.flash);
      if (was !== undefined && was !== one.textContent) flash(one);
    }
    if (window.htmx) window.htmx.process(now);
    document.dispatchEvent(new CustomEvent("live:refreshed", { detail: { element: now } }));
    subscribe();
  }

  function flash(el) {
    el.classList.remove("flash");
    void el.offsetWidth;
    el.classList.add("flash");
  }

  function schedule(el) {
    if (waiting.has(el) || document.hidden) return;
    const every = Number(el.dataset.liveEvery || 1) * 1000;
    const pause = Math.max(50, every - (Date.now() - (last.get(el) || 0)));
    waiting.set(el, setTimeout(() => { waiting.delete(el); if (el.isConnected) refresh(el); }, pause));
  }

  function changed(topic) {
    for (const el of regions()) if (topicsOf(el).includes(topic)) schedule(el);
    document.dispatchEvent(new CustomEvent("live:changed", { detail: { topic } }));
  }

  /* --- the stream ----------------------------------------------------------------------- */
  function subscribe() {
    const wanted = [...new Set(regions().flatMap(topicsOf))].sort().join(",");
    if (document.hidden || wanted === subscribed) return;
    close();
    if (!wanted) return;
    subscribed = wanted;
    switched = Date.now();
    source = new EventSource(`/live/?topics=${encodeURIComponent(wanted)}`);
    source.addEventListener("open", () => { tell(true); catchUp(); });
    source.addEventListener("error", () => tell(false));
    source.addEventListener("changed", (event) => changed(event.data));
  }

  // What changed before this stream opened, or while one was exchanged for another, was told to
  // nobody: look once at what is small and waits for an answer. Lists wait for their next change.
  function catchUp() {
    for (const el of regions()) if (Number(el.dataset.liveEvery || 1) <= 1 && (last.get(el) || 0) <= switched) schedule(el);
  }

  function close() {
    if (source) source.close();
    source = null;
    subscribed = "";
  }

  function tell(ok) {
    const back = ok && !healthy && document.body.classList.contains("live-lost");
    healthy = ok;
    document.body.classList.toggle("live-lost", !ok);
    if (back) regions().forEach(schedule); // what happened while we were away
  }

  document.addEventListener("visibilitychange", () => {
    clearTimeout(hideTimer);
    if (document.hidden) {
      hideTimer = setTimeout(close, HIDDEN_MS);
    } else {
      if (!source) regions().forEach(schedule);
      subscribe();
    }
  });

  document.addEventListener("htmx:afterSettle", (event) => { tellTimes(event.target); subscribe(); });

  /* --- small manners of the pages --------------------------------------------------------- */
  // Live tail: the region of that id is asked for again every two seconds while the button is down.
  let tail = 0;
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-tail]");
    if (!button) return;
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    button.querySelector(".dot").className = on ? "dot green pulse" : "dot grey";
    clearInterval(tail);
    if (on) tail = setInterval(() => { const el = document.getElementById(button.dataset.tail); if (el && !document.hidden) refresh(el); }, 2000);
  });
  document.addEventListener("keydown", (event) => {
    const row = event.target.closest?.("[data-href]");
    if (row && event.key === "Enter" && event.target === row) location.href = row.dataset.href;
  });
  document.addEventListener("click", (event) => {
    const copy = event.target.closest("[data-copy]");
    if (!copy) return;
    const text = copy.dataset.copy || document.getElementById(copy.dataset.copyFrom)?.textContent || "";
    navigator.clipboard?.writeText(text).then(() => {
      copy.classList.add("copied");
      setTimeout(() => copy.classList.remove("copied"), 1200);
    });
  });
  document.addEventListener("submit", (event) => {
    const question = event.target.dataset.confirm;
    if (question && !window.confirm(question)) event.preventDefault();
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-submits]")) event.target.form.submit();
  });
  document.addEventListener("input", (event) => {
    const table = document.getElementById(event.target.dataset?.narrows || "");
    if (!table) return;
    const word = event.target.value.trim().toLowerCase();
    for (const row of table.querySelectorAll("[data-key]")) row.hidden = !row.dataset.key.includes(word);
  });
  // A dangerous command's button wakes when the word is typed.
  document.addEventListener("input", (event) => {
    const word = event.target.dataset?.confirmWord;
    if (word === undefined) return;
    const button = event.target.closest("form").querySelector("button[type=submit]");
    if (button) button.disabled = event.target.value.trim() !== word;
  });

  document.addEventListener("DOMContentLoaded", () => {
    const lost = document.createElement("div");
    lost.id = "live-lost";
    lost.setAttribute("role", "status");
    lost.textContent = document.documentElement.dataset.lostText || "Connection lost. Trying again…";
    document.body.append(lost);
    tellTimes(document);
    subscribe();
    setInterval(() => tellTimes(document), 1000);
    setInterval(() => { if (!healthy && !document.hidden) regions().forEach(schedule); }, POLL_MS);
  });
  window.addEventListener("pagehide", close);
  window.Live = { refresh, subscribe, tellTimes };
})();
