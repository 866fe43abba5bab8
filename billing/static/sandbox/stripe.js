/**
 * The stand-in for Stripe.js, served with the payment sandbox only: same calls, same answers,
 * test cards only. A real page loads https://js.stripe.com instead and never sees this file.
 */
(() => {
  "use strict";
  const script = /** @type {HTMLScriptElement} */ (document.currentScript);
  const API = script.dataset.api || "/sandbox/stripe";
  const CSS = script.src.replace(/stripe(\.[0-9a-f]+)?\.js(\?.*)?$/, "stripe.css");
  const HINTS = [
    ["4242 4242 4242 4242", "pays"],
    ["4000 0000 0000 0002", "is declined"],
    ["4000 0000 0000 9995", "has too little money"],
    ["4000 0025 0000 3155", "asks the bank (3-D Secure)"],
    ["4000 0000 0000 0119", "fails while processing"],
  ];

  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };

  const flatten = (prefix, value, form) => {
    if (value === null || value === undefined) return;
    if (typeof value === "object") {
      for (const [k, v] of Object.entries(value)) flatten(prefix ? `${prefix}[${k}]` : k, v, form);
    } else form.append(prefix, String(value));
  };

  const call = async (key, verb, path, params = {}) => {
    const form = new URLSearchParams();
    flatten("", { ...params, key }, form);
    const url = `${API}/v1/${path}`;
    try {
      const response = await fetch(verb === "GET" ? `${url}?${form}` : url, {
        method: verb,
        body: verb === "GET" ? undefined : form,
      });
      return await response.json();
    } catch {
      return { error: { type: "api_connection_error", message: "The connection failed. Try again." } };
    }
  };

  /** The bank's page: asks, and tells the sandbox what the driver did. */
  const askBank = (intentId) =>
    new Promise((resolve) => {
      const dialog = make("dialog", { class: "sandbox-bank", "aria-labelledby": "sandbox-bank-title" });
      const answer = async (passed) => {
        dialog.close();
        dialog.remove();
        const response = await fetch(`${API}/_control/authenticate/`, {
          method: "POST",
          body: JSON.stringify({ intent: intentId, passed }),
        });
        resolve(await response.json());
      };
      const yes = make("button", { type: "button", class: "sandbox-yes" }, "Confirm the payment");
      const no = make("button", { type: "button", class: "sandbox-no" }, "Refuse");
      yes.addEventListener("click", () => answer(true));
      no.addEventListener("click", () => answer(false));
      dialog.addEventListener("cancel", (event) => {
        event.preventDefault();
        answer(false);
      });
      dialog.append(
        make("p", { class: "sandbox-badge" }, "SANDBOX"),
        make("h2", { id: "sandbox-bank-title" }, "Your bank asks"),
        make("p", {}, "This stands for the page of your bank (3-D Secure). No real bank is asked."),
        yes,
        no,
      );
      document.body.append(dialog);
      dialog.showModal();
      yes.focus();
    });

  const cardFields = () => {
    const number = make("input", {
      id: "sandbox-number", name: "sandbox-number", inputmode: "numeric", autocomplete: "off",
      list: "sandbox-cards", value: "4242 4242 4242 4242", maxlength: "23", required: "",
    });
    const expiry = make("input", {
      id: "sandbox-expiry", name: "sandbox-expiry", inputmode: "numeric", autocomplete: "off",
      value: "12 / 34", maxlength: "7", required: "",
    });
    const cvc = make("input", {
      id: "sandbox-cvc", name: "sandbox-cvc", inputmode: "numeric", autocomplete: "off",
      value: "123", maxlength: "4", required: "",
    });
    const list = make("datalist", { id: "sandbox-cards" });
    for (const [value, does] of HINTS) list.append(make("option", { value }, does));
    const field = (label, input) =>
      make("div", { class: "sandbox-field" }, make("label", { for: input.id }, label), input);
    const hints = make("ul", {});
    for (const [value, does] of HINTS) hints.append(make("li", {}, make("code", {}, value), ` ${does}`));
    const box = make(
      "fieldset",
      { class: "sandbox-card" },
      make("legend", {}, make("span", { class: "sandbox-badge" }, "SANDBOX"), " Card (no real money)"),
      field("Card number", number),
      make("div", { class: "sandbox-row" }, field("Expiry", expiry), field("CVC", cvc)),
      list,
      make("details", {}, make("summary", {}, "Test cards"), hints),
    );
    return { box, number, expiry, cvc };
  };

  class Element {
    constructor() {
      this.fields = cardFields();
      this.handlers = {};
    }
    mount(where) {
      const target = typeof where === "string" ? document.querySelector(where) : where;
      if (!target) throw new Error(`Nothing to mount on: ${where}`);
      target.replaceChildren(this.fields.box);
      queueMicrotask(() => this.emit("ready", { elementType: "payment" }));
      this.fields.box.addEventListener("input", () =>
        this.emit("change", { elementType: "payment", complete: this.problem() === "" }),
      );
      return this;
    }
    on(event, handler) {
      (this.handlers[event] ||= []).push(handler);
      return this;
    }
    emit(event, detail) {
      for (const handler of this.handlers[event] || []) handler(detail);
    }
    update() {}
    unmount() { this.fields.box.remove(); }
    destroy() { this.unmount(); }
    problem() {
      const digits = this.fields.number.value.replace(/\D/g, "");
      if (digits.length < 13) return "Your card number is incomplete.";
      if (!/^\s*(0?[1-9]|1[0-2])\s*\/\s*\d{2}\s*$/.test(this.fields.expiry.value)) {
        return "Your card's expiration date is incomplete.";
      }
      if (!/^\d{3,4}$/.test(this.fields.cvc.value.trim())) return "Your card's security code is incomplete.";
      return "";
    }
    card() {
      const [month, year] = this.fields.expiry.value.split("/").map((part) => Number(part.trim()));
      return {
        number: this.fields.number.value.replace(/\D/g, ""),
        exp_month: month, exp_year: 2000 + year, cvc: this.fields.cvc.value.trim(),
      };
    }
  }

  class Elements {
    constructor(options) {
      if (options && options.paymentMethodTypes) {
        throw new Error("paymentMethodTypes was removed: use allowedPaymentMethodTypes.");
      }
      this.options = { ...options };
      this.element = null;
    }
    create(type) {
      if (type !== "payment") throw new Error(`The sandbox has a payment element, no ${type}.`);
      this.element = new Element();
      return this.element;
    }
    getElement() { return this.element; }
    update(options) { Object.assign(this.options, options); }
    async submit() {
      const message = this.element ? this.element.problem() : "There is no card field.";
      return message ? { error: { type: "validation_error", message } } : { selectedPaymentMethod: "card" };
    }
  }

  const idOf = (clientSecret) => clientSecret.split("_secret_")[0];

  const confirm = async (key, resource, name, options) => {
    const { elements, clientSecret, confirmParams = {}, redirect = "always" } = options;
    const id = idOf(clientSecret);
    const method = await call(key, "POST", "payment_methods", { type: "card", card: elements.element.card() });
    if (method.error) return { error: method.error };
    let intent = await call(key, "POST", `${resource}/${id}/confirm`, {
      client_secret: clientSecret, payment_method: method.id,
    });
    if (intent.error) return { error: intent.error };
    if (intent.status === "requires_action") {
      await askBank(id);
      intent = await call(key, "GET", `${resource}/${id}`, { client_secret: clientSecret });
      if (intent.error) return { error: intent.error };
      if (intent.last_payment_error) return { error: intent.last_payment_error };
    }
    if (redirect === "always" && confirmParams.return_url) {
      const url = new URL(confirmParams.return_url);
      url.searchParams.set(name === "paymentIntent" ? "payment_intent" : "setup_intent", id);
      url.searchParams.set("redirect_status", "succeeded");
      location.assign(url);
      return new Promise(() => {});
    }
    return { [name]: intent };
  };

  window.Stripe = (key) => {
    if (!String(key).startsWith("pk_test_")) throw new Error("The sandbox takes test keys only.");
    if (!document.querySelector(`link[href="${CSS}"]`)) {
      document.head.append(make("link", { rel: "stylesheet", href: CSS }));
    }
    return {
      elements: (options) => new Elements(options),
      confirmPayment: (options) => confirm(key, "payment_intents", "paymentIntent", options),
      confirmSetup: (options) => confirm(key, "setup_intents", "setupIntent", options),
      retrievePaymentIntent: async (clientSecret) => {
        const intent = await call(key, "GET", `payment_intents/${idOf(clientSecret)}`, { client_secret: clientSecret });
        return intent.error ? { error: intent.error } : { paymentIntent: intent };
      },
    };
  };
})();
