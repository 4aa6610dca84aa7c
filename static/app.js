/* Keyboard, times, connection badge, focus keeping. No templating: HTML comes from the server. */
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const say = (text) => { $("#announcer").textContent = text; };

  /* 1 Times: the server writes UTC, the reader sees ages and count-downs. */
  const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const words = (seconds) => {
    const at = UNITS.findIndex(([, size]) => seconds >= size);
    if (at < 0) return "0 s";
    const [unit, size] = UNITS[at];
    const [next, part] = UNITS[at + 1] ?? ["", 1];
    const rest = next ? Math.floor((seconds % size) / part) : 0;
    return `${Math.floor(seconds / size)} ${unit}${rest && seconds < 86400 * 3 ? ` ${rest} ${next}` : ""}`;
  };
  const tick = () => {
    for (const time of $$("time[data-ago], time[data-until]")) {
      const age = Math.round((Date.now() - Date.parse(time.dateTime)) / 1000);
      const text = "ago" in time.dataset
        ? age < 2 && age > -5 ? "just now" : age < 0 ? `in ${words(-age)}` : `${words(age)} ago`
        : age >= 0 ? "now" : `in ${words(-age)}`;
      if (time.textContent !== text) time.textContent = text;
    }
  };

  /* 2 Connection: the socket pushes; while it is down the page asks every 5 s. */
  let open = false;
  let heard = null;
  const connect = (isOpen) => { open = isOpen; heard = isOpen ? new Date() : heard; show(); };
  const show = () => {
    const box = $("#live-badge");
    const hasSocket = $("[hx-ws\\:connect]");
    const isEarly = !heard && performance.now() < 3000;
    if (!box || isEarly || !(hasSocket || $("[data-live-url]"))) return;
    const text = open ? `Live ${heard.toISOString().slice(11, 19)} UTC`
      : hasSocket ? "Live paused, retrying" : "Checking every 5 s";
    box.hidden = false;
    box.className = `live${open ? "" : hasSocket ? " is-retry" : " is-off"}`;
    if (box.textContent !== text) box.textContent = text;
  };
  const poll = () => {
    show();
    if (open || document.hidden) return;
    for (const root of $$("[data-live-url]"))
      htmx.ajax("GET", root.dataset.liveUrl, { source: root, target: root, swap: "outerMorph" });
  };
  document.addEventListener("htmx:ws:after:connection", () => connect(true));
  document.addEventListener("htmx:ws:close", () => connect(false));
  document.addEventListener("htmx:ws:after:message:incoming", () => { heard = new Date(); show(); });
  window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

  /* 3 Swaps: nothing older over something newer, no error page in a box, focus stays. */
  let focused = null;
  document.addEventListener("htmx:before:response", (event) => {
    const raw = event.detail.ctx.response.raw;
    if (!raw.redirected || new URL(raw.url).pathname !== document.body.dataset.signIn) return;
    event.preventDefault();
    location.reload();
  });
  document.addEventListener("htmx:before:swap", (event) => {
    const { ctx, tasks } = event.detail;
    const active = document.activeElement;
    focused = active?.id ? `#${CSS.escape(active.id)}` : active?.matches("a[href]") ? `a[href="${CSS.escape(active.getAttribute("href"))}"]` : null;
    const isStale = ({ target, fragment }) => {
      if (!target?.dataset.liveUrl) return false;
      const next = Number(fragment.firstElementChild?.dataset.revision);
      return ctx.response?.status >= 400 || next < Number(target.dataset.revision);
    };
    for (const task of tasks.filter(isStale)) tasks.splice(tasks.indexOf(task), 1);
    // A file's line breaks around its root would gather beside the box, one with every push.
    for (const { target, fragment } of tasks)
      if (target?.dataset.liveUrl && fragment.firstElementChild) fragment.replaceChildren(fragment.firstElementChild);
  });
  const settle = () => {
    tick();
    rove();
    fade();
    if (focused && document.activeElement === document.body) $(focused)?.focus({ preventScroll: true });
  };
  document.addEventListener("htmx:after:swap", settle);

  /* 4 Node marks: one tab stop for all of them, arrows move. */
  const group = (mark) => mark.closest(".mark-rows") ?? mark.closest(".marks");
  const rove = () => {
    for (const box of new Set($$("a.mark").map(group))) {
      const marks = $$("a.mark", box);
      const current = marks.find((mark) => mark.tabIndex === 0 && mark.hasAttribute("tabindex")) ?? marks[0];
      for (const mark of marks) mark.tabIndex = mark === current ? 0 : -1;
    }
  };
  const step = (mark, key) => {
    const marks = $$("a.mark", group(mark));
    const at = marks.indexOf(mark);
    const { top, left } = mark.getBoundingClientRect();
    const row = (list, isNext) => {
      const first = list.find((other) => isNext(other.getBoundingClientRect().top));
      const line = first && list.filter((other) => other.getBoundingClientRect().top === first.getBoundingClientRect().top);
      return line?.reduce((best, other) => (Math.abs(other.getBoundingClientRect().left - left) < Math.abs(best.getBoundingClientRect().left - left) ? other : best));
    };
    return { ArrowRight: marks[at + 1], ArrowLeft: marks[at - 1], Home: marks[0], End: marks.at(-1),
      ArrowDown: row(marks.slice(at), (y) => y > top), ArrowUp: row(marks.slice(0, at).reverse(), (y) => y < top) }[key];
  };

  /* 5 Keyboard: ignored while someone types. */
  let goUntil = 0;
  document.addEventListener("keydown", (event) => {
    const mark = event.target.closest?.("a.mark");
    const next = mark && step(mark, event.key);
    if (next) { mark.tabIndex = -1; next.tabIndex = 0; next.focus(); event.preventDefault(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, textarea, select, [contenteditable], dialog[open]")) return;
    if (event.key === "/") { event.preventDefault(); ($("main input[type=search], main [data-filter]") ?? $(".jump input"))?.focus(); }
    else if (event.key === "?") $("#help")?.showModal();
    else if (event.timeStamp < goUntil && /^[a-z]$/.test(event.key)) { goUntil = 0; $(`[data-go=${event.key}]`)?.click(); }
    else goUntil = event.key === "g" ? event.timeStamp + 750 : 0;
  });

  /* 6 Clicks: dialogs, dismissing, copying. */
  document.addEventListener("click", async (event) => {
    const on = (name) => event.target.closest?.(`[data-${name}]`);
    if (on("dialog")) $(`#${on("dialog").dataset.dialog}`)?.showModal();
    else if (on("dismiss")) on("dismiss").closest(".toast").remove();
    else if (on("copy")) {
      const done = await navigator.clipboard?.writeText(on("copy").dataset.copy).then(() => true, () => false);
      say(done ? "Copied" : "The browser does not let this page copy");
    }
  });
  const fade = () => { for (const toast of $$(".toast[data-fade]")) { toast.removeAttribute("data-fade"); setTimeout(() => toast.remove(), 8000); } };

  document.addEventListener("DOMContentLoaded", () => { tick(); rove(); fade(); show(); setInterval(tick, 1000); setInterval(poll, 5000); });
})();
