"use strict";
// Renews the parts of a page that have changed, asks in dialogs, listens to keys. Without it every page is
// whole, and steers by its forms. curves.js draws charts.

const root = document.documentElement.dataset.root;
const steers = "steers" in document.documentElement.dataset;
const byId = (id) => document.getElementById(id);
document.documentElement.classList.add("script");

// --- what has changed, as the server tells

let events = null;
let again = 0;

function connect() {
  clearTimeout(again);
  if (events || document.hidden || !("renewed" in document.documentElement.dataset)) return;
  events = new EventSource(location.pathname + location.search);
  events.onopen = () => connection("live", false);
  events.onmessage = (message) => take(JSON.parse(message.data));
  events.onerror = () => {
    connection("not connected", true);
    if (events.readyState !== EventSource.CLOSED) return;
    disconnect(); // refused: the server has other secrets, or keeps too many pages up to date
    again = setTimeout(connect, 10000);
  };
}

function disconnect() {
  if (events) events.close();
  events = null;
}

function connection(text, lost) {
  byId("connection").textContent = text;
  byId("connection").classList.toggle("lost", lost);
}

function take(part) {
  if ("trouble" in part) return tell("trouble", part.trouble);
  const place = byId(part.id);
  if (!place || place.dataset.version === part.version) return;
  if (place.querySelector("select:focus, input[type=search]:focus")) return; // somebody chooses: the next change comes
  const kept = remember(place);
  place.innerHTML = part.html;
  place.dataset.version = part.version;
  restore(place, kept);
}

function remember(place) {
  const checked = [...place.querySelectorAll("input:checked")].map((input) => input.value);
  const logs = [...place.querySelectorAll("pre.log")].map((log) => log.scrollTop);
  const open = [...place.querySelectorAll("details[open]")].map((details) => details.id);
  const focus = place.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  return { checked, logs, open, focus };
}

function restore(place, kept) {
  for (const input of place.querySelectorAll("input[type=checkbox]")) input.checked = kept.checked.includes(input.value);
  place.querySelectorAll("pre.log").forEach((log, n) => { if (kept.logs[n] !== undefined && !follows(log)) log.scrollTop = kept.logs[n]; });
  for (const id of kept.open) byId(id)?.setAttribute("open", "");
  prepare(place);
  place.dispatchEvent(new Event("renewed", { bubbles: true }));
  if (kept.focus) [...place.querySelectorAll("a")].find((a) => a.getAttribute("href") === kept.focus)?.focus();
  mark();
}

// a log that is looked at further up stays there
const looksBack = new Set();
const follows = (log) => "follows" in log.dataset && !looksBack.has(log.closest(".live")?.id);

function prepare(place) {
  for (const log of place.querySelectorAll("pre.log")) {
    if (follows(log)) log.scrollTop = log.scrollHeight;
    log.addEventListener("scroll", () => {
      const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
      looksBack[atEnd ? "delete" : "add"](log.closest(".live")?.id);
    });
  }
}

function tell(id, text) {
  byId(id).textContent = text;
  byId(id).hidden = !text;
}

// --- time goes on between two changes

function span(seconds) {
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1).replace(".0", "")} s`;
  const whole = Math.round(seconds);
  const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  for (let n = 0; n < 3; n++) {
    const [large, largeS] = units[n], [small, smallS] = units[n + 1];
    if (whole < largeS) continue;
    const rest = Math.floor((whole % largeS) / smallS);
    return `${Math.floor(whole / largeS)} ${large}` + (rest ? ` ${rest} ${small}` : "");
  }
  return `${whole} s`;
}

function tick() {
  if (document.hidden) return;
  const now = Date.now() / 1000;
  for (const time of document.querySelectorAll("time[data-since]")) time.textContent = span(Math.floor(now - time.dataset.since));
  for (const time of document.querySelectorAll("time[data-until]")) time.textContent = span(Math.max(0, Math.floor(time.dataset.until - now)));
}

// --- changes of jobs: the page that asks, in a dialog

async function ask(address) {
  const page = await read(fetch(address));
  if (page) show(page, address);
}

async function read(request) {
  try {
    const answer = await request;
    return { document: new DOMParser().parseFromString(await answer.text(), "text/html"), answer };
  } catch {
    tell("trouble", "The server does not respond. Nothing was changed.");
    return null;
  }
}

function show(page, address) {
  const dialog = byId("dialog");
  const form = page.document.getElementById("question");
  if (!form) {
    tell("trouble", page.document.getElementById("message")?.textContent || "This is not possible.");
    return false;
  }
  dialog.replaceChildren(form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = new URLSearchParams(new FormData(form));
    dialog.close();
    const next = await read(fetch(address, { method: "POST", body }));
    if (next?.answer.redirected) {
      tell("trouble", "");
      tell("notice", next.document.getElementById("notice")?.textContent || "done");
    } else if (!(next && show(next, address)) && form.elements.text) dialog.showModal(); // what was typed is kept
  });
  if (!dialog.open) dialog.showModal();
  return true;
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-ask], a[data-close]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if ("ask" in link.dataset) {
    event.preventDefault();
    ask(link.href);
  } else if (byId("dialog").open) {
    event.preventDefault();
    byId("dialog").close();
  }
});

// --- keys

let chosen = null; // the number of a job, or `runs/` and that of a run
const rows = () => [...document.querySelectorAll("tr[data-job], tr[data-run]")];
const keyOf = (row) => row.dataset.job ?? `runs/${row.dataset.run}`;
const jobOf = (key) => (key && !key.startsWith("runs/") ? key : null);

function mark() {
  for (const row of rows()) row.classList.toggle("chosen", keyOf(row) === chosen);
}

function choose(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => keyOf(row) === chosen);
  const next = all[Math.min(Math.max(at + by, 0), all.length - 1)];
  chosen = keyOf(next);
  mark();
  next.scrollIntoView({ block: "nearest" });
}

const verbs = {
  h: "hold", l: "release", p: "pause", u: "resume", c: "cancel", r: "retry", "+": "raise", "-": "lower", t: "tag", n: "note",
};
const go = (place) => { location.href = place; };
const follow = (rel) => { const link = document.querySelector(`a[rel=${rel}]`); if (link) go(link.href); };
const keys = {
  j: () => choose(1), k: () => choose(-1), o: () => go(root), a: () => go(`${root}jobs`), R: () => go(`${root}runs`),
  "[": () => follow("prev"), "]": () => follow("next"), "?": () => byId("help").showModal(),
  "/": () => { const filter = document.querySelector("[data-filter]"); if (filter) filter.focus(); else go(`${root}jobs#filter`); },
  Enter: () => { if (chosen && document.activeElement === document.body) go(jobOf(chosen) ? `${root}jobs/${chosen}` : root + chosen); },
};

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=checkbox]), select, textarea");
  if (event.key === "Escape" && typing) return typing.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const job = jobOf(chosen) || document.querySelector("h1[data-job]")?.dataset.job;
  if (event.key in verbs && steers && job) ask(`${root}jobs/${job}/${verbs[event.key]}`);
  else if (event.key in keys) keys[event.key]();
  else return;
  if (event.key !== "Enter") event.preventDefault();
});

document.addEventListener("change", (event) => { if ("submit" in event.target.dataset) event.target.form.submit(); });

// --- begin

prepare(document);
setInterval(tick, 1000);
document.addEventListener("visibilitychange", () => { if (document.hidden) { disconnect(); connection("paused", false); } else connect(); });
window.addEventListener("pagehide", disconnect); // a page that the browser keeps for "back" holds no connection
window.addEventListener("pageshow", connect);
connect();
