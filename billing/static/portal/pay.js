/**
 * Pay and start: the card field on a connector's page, with Stripe's Payment Element.
 *
 * The intent is made by our server only when the driver presses the button. The page provides
 *
 *   <form data-pay action="…" method="post" data-key="pk_…" data-amount="2500" data-currency="eur"
 *         data-locale="de" data-minor="100">
 *     <input type="radio" name="cap" value="25" data-amount="2500">   any number, or a <select>
 *     <div data-card></div> <p data-error role="alert" hidden></p> <button data-submit>…</button>
 *
 * and the action answers {client_secret, return_url} or {error}.
 */
(() => {
  "use strict";
  const form = document.querySelector("form[data-pay]");
  if (!(form instanceof HTMLFormElement)) return;
  const button = form.querySelector("[data-submit]");
  const errorBox = form.querySelector("[data-error]");
  const cardBox = form.querySelector("[data-card]");
  if (!(button instanceof HTMLButtonElement) || !errorBox || !(cardBox instanceof HTMLElement)) return;
  const texts = form.dataset;

  let offered = true; // the connector's state above the form still allows a start
  form.addEventListener("offer", (event) => {
    offered = event instanceof CustomEvent && event.detail === true;
    if (form.getAttribute("aria-busy") !== "true") button.disabled = !offered;
  });

  /** @param {string} message */
  const say = (message) => {
    errorBox.textContent = message;
    errorBox.toggleAttribute("hidden", message === "");
  };

  /** @param {boolean} busy */
  const setBusy = (busy) => {
    button.disabled = busy || !offered;
    form.setAttribute("aria-busy", String(busy));
    if (busy) button.dataset.label ??= button.textContent ?? "";
    button.textContent = (busy && texts.busyText) || button.dataset.label || button.textContent;
  };

  const failed = texts.failedText || "That did not work. Nothing was reserved. Please try again.";

  if (typeof window.Stripe !== "function") {
    say(texts.blockedText || "The card form could not be loaded. Allow js.stripe.com and reload the page.");
    button.disabled = true;
    return;
  }

  /** The chosen cap in the currency's minor units. */
  const amount = () => {
    const chosen = form.querySelector("[name=cap]:checked, select[name=cap] option:checked");
    const own = chosen instanceof HTMLElement ? chosen.dataset.amount : undefined;
    return Number(own || texts.amount);
  };

  const stripe = window.Stripe(texts.key || "", { locale: /** @type {any} */ (texts.locale || "auto") });
  const dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  const elements = stripe.elements({
    mode: "payment",
    amount: amount(),
    currency: (texts.currency || "eur").toLowerCase(),
    captureMethod: "manual",
    appearance: { theme: dark ? "night" : "stripe" },
  });
  elements.create("payment", { layout: "tabs" }).mount(cardBox);
  button.disabled = false; // the page gives it disabled: without this script it could not pay
  form.addEventListener("change", (event) => {
    if (event.target instanceof HTMLElement && event.target.getAttribute("name") === "cap") {
      elements.update({ amount: amount() });
    }
  });

  /** The intent of this page: made once, confirmed again after a declined card. */
  let begun = /** @type {{ client_secret: string, return_url: string, amount: number } | null} */ (null);

  const begin = async () => {
    if (begun && begun.amount === amount()) return begun;
    const response = await fetch(form.action, {
      method: "POST",
      body: new FormData(form),
      headers: { Accept: "application/json" },
      credentials: "same-origin",
    });
    const answer = await response.json().catch(() => ({}));
    if (!response.ok || !answer.client_secret) throw new Error(answer.error || failed);
    begun = { client_secret: answer.client_secret, return_url: answer.return_url, amount: amount() };
    return begun;
  };

  /**
   * Confirm with the entered card and return where to go on. An intent that was called off
   * meanwhile (declined too often, too old) is replaced by a new one, once.
   */
  const confirm = async (again = true) => {
    const { client_secret: clientSecret, return_url: returnUrl } = await begin();
    const { error } = await stripe.confirmPayment({
      elements,
      clientSecret,
      confirmParams: { return_url: returnUrl },
      redirect: "if_required",
    });
    if (!error) return returnUrl;
    if (error.code !== "payment_intent_unexpected_state") throw new Error(error.message || failed);
    begun = null;
    const paid = ["requires_capture", "processing", "succeeded"];
    if (paid.includes(error.payment_intent?.status || "")) return returnUrl; // in another tab
    if (!again) throw new Error(failed);
    return confirm(false);
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    say("");
    setBusy(true);
    try {
      const checked = await elements.submit();
      if (checked.error) throw new Error(checked.error.message || failed);
      window.location.assign(await confirm());
    } catch (problem) {
      say(problem instanceof Error ? problem.message : failed);
      setBusy(false);
      errorBox.scrollIntoView({ block: "nearest" });
    }
  });
})();
