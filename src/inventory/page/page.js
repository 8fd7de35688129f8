// The inventory page: polls the API with ETags and shows what it answers.
//
// Whatever comes from the API enters the page as text (textContent, attributes), never as markup.
// Nothing is loaded from elsewhere and nothing is sent but GET requests. All paths are relative, for
// the page may be served below a prefix.

import { language, say, words } from "./words.js";

const POLL_MILLISECONDS = 5000;
const NODES_AT_A_TIME = 200;
const OBJECTS_AT_A_TIME = 10;
const APPROVE = "multinic.example.com/approve";
const TOKEN_KEY = "multinic-inventory-token";
const RECORDS = "v1/inventory/node-configs";
const STATES = "v1/inventory/node-states";

const at = (id) => document.getElementById(id);
const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto", style: "short" });
const absolute = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });

const state = {
  records: [],
  states: new Map(),
  overview: { store: null, objects: [] },
  tags: new Map(),
  shown: NODES_AT_A_TIME,
  shownObjects: OBJECTS_AT_A_TIME,
  open: new Map(),
  cards: new Map(),
  clockAhead: 0,
  leader: null,
  age: 0,
  reachedAt: null,
  failed: false,
};

// ---- elements

/** An element with classes, text or children. */
function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children.filter((child) => child !== null));
  return element;
}

function when(text, word, nodes) {
  const element = make("time", "");
  element.dateTime = text;
  if (nodes !== undefined) element.dataset.nodes = nodes;
  element.title = absolute.format(new Date(text));
  element.dataset.word = word ?? "";
  showAge(element);
  return element;
}

function showAge(element) {
  const seconds = (new Date(element.dateTime) - (Date.now() + state.clockAhead)) / 1000;
  const steps = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const [unit, size] = steps.find(([, size]) => Math.abs(seconds) >= size) ?? ["second", 1];
  const age = relative.format(Math.trunc(seconds / size), unit);
  const isOver = element.dataset.word === "nextDue" && seconds < 1;
  const text = element.dataset.word ? say(element.dataset.word, { when: age, nodes: element.dataset.nodes }) : age;
  element.textContent = isOver ? words.dueNow : text;
}

/** A button; `key` finds it again when what it stands in is shown anew. */
function button(text, key, action) {
  const element = make("button", "", text);
  element.type = "button";
  element.dataset.key = key;
  element.addEventListener("click", () => action(element));
  return element;
}

/** Shows these in place of what was there. What had the keyboard's focus keeps it. */
function replace(container, children) {
  const focused = container.contains(document.activeElement) ? document.activeElement : null;
  container.replaceChildren(...children);
  if (!focused) return;
  const buttons = [...container.querySelectorAll("[data-key]")];
  const again = buttons.find((element) => element.dataset.key === focused.dataset.key);
  again?.focus({ preventScroll: true });
}

// ---- asking

/** The new answer of a path, or null if it is the one we have. */
async function ask(path) {
  const headers = {};
  const token = sessionStorage.getItem(TOKEN_KEY);
  if (token) headers["Authorization"] = `Bearer ${token}`;
  if (state.tags.has(path)) headers["If-None-Match"] = state.tags.get(path);
  const answer = await fetch(path, { headers, cache: "no-store" });
  const date = Date.parse(answer.headers.get("Date"));
  if (date) state.clockAhead = date - Date.now();
  state.leader = answer.headers.get("X-Leader");
  state.age = Number(answer.headers.get("Age"));
  if (answer.status === 304) return null;
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.error), { status: answer.status });
  const tag = answer.headers.get("ETag");
  if (tag) state.tags.set(path, tag);
  return body;
}

/** Each answer is shown before the next question: it won't come again, and that one may fail. */
async function poll() {
  try {
    const overview = await ask("v1/overview");
    at("token-form").hidden = true;
    if (overview) {
      state.overview = overview;
      showObjects();
    }
    const known = ["healthy", "unwritten"].includes(state.overview.store.state);
    const states = await ask(STATES);
    if (states) state.states = new Map(states.map((one) => [keyOf(one), withText(one)]));
    const records = known ? await ask(RECORDS) : null;
    if (records) state.records = records.map(withText);
    if (states || records) showNodes();
    if (records) refreshTimelines();
    state.failed = false;
    state.reachedAt = new Date(Date.now() + state.clockAhead).toISOString();
  } catch (error) {
    if (error.status === 401) return askForToken();
    state.failed = true;
    state.error = error.status ? error.message : null;
  }
  showFreshness();
}

async function keepPolling() {
  if (!document.hidden) await poll();
  setTimeout(keepPolling, POLL_MILLISECONDS);
}

function askForToken() {
  // What is hidden below has to come again, also if it is what we had.
  state.tags.clear();
  const had = sessionStorage.getItem(TOKEN_KEY) !== null;
  sessionStorage.removeItem(TOKEN_KEY);
  if (!at("token-form").hidden && !had) return;
  at("token-error").textContent = had ? words.tokenWrong : "";
  at("token-form").hidden = false;
  at("attention-section").hidden = true;
  at("objects-section").hidden = true;
  at("nodes-section").hidden = true;
  at("token").focus();
}

// ---- searching

function withText(record) {
  return { ...record, text: JSON.stringify(record).toLowerCase() };
}

function matches(text) {
  const terms = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  return terms.every((term) => text.includes(term));
}

// ---- showing

function showFreshness() {
  const element = at("freshness");
  element.classList.toggle("bad", state.failed);
  if (!state.failed) {
    element.textContent = state.leader ? say("standby", state) : words.updated;
  } else if (state.reachedAt) {
    element.textContent = say("unreachable", { when: absolute.format(new Date(state.reachedAt)) });
  } else {
    element.textContent = state.error ?? say("unreachable");
  }
  showTrouble();
}

function showTrouble() {
  const store = state.overview.store;
  const lines = [];
  if (state.failed && state.error) lines.push(state.error);
  if (store && store.state !== "healthy") lines.push(say("storeTrouble", store));
  lines.push(...(store?.findings ?? []));
  at("trouble").textContent = lines.join(" · ");
  at("trouble").hidden = lines.length === 0;
}

const urgency = { False: 0, Unknown: 1, True: 2 };
const fails = (object) => object.hold !== null || object.ready === "False";
const needsAttention = (object) => fails(object) || object.configured === "False";
/** What is held comes first, then what fails, then what the agent failed on; each with the oldest first. */
const rank = (object) => [object.hold ? 0 : fails(object) ? 1 : 2,
  object.hold?.since ?? object.readySince ?? "", object.namespace, object.name].join();

function showObjects() {
  const all = Map.groupBy(state.overview.objects, needsAttention);
  const found = (objects = []) => objects.filter((object) => matches(JSON.stringify(object).toLowerCase()));
  const attention = found(all.get(true)).toSorted((one, other) => rank(one) < rank(other) ? -1 : 1);
  const others = found(all.get(false));
  others.sort((one, other) => (urgency[one.ready] ?? 1) - (urgency[other.ready] ?? 1));
  const page = others.slice(0, state.shownObjects);
  replace(at("attention"), attention.map(objectRow));
  at("attention").hidden = attention.length === 0;
  at("attention-count").textContent = counted(attention.length, all.get(true)?.length ?? 0);
  at("all-well").hidden = all.has(true);
  at("attention-section").hidden = state.overview.objects.length === 0;
  replace(at("objects"), page.map(objectRow));
  at("objects").hidden = others.length === 0;
  at("objects-count").textContent = counted(others.length, all.get(false)?.length ?? 0);
  at("objects-section").hidden = !all.has(false);
  at("more-objects").hidden = others.length <= page.length;
  at("more-objects").textContent = say("more", { count: others.length - page.length });
}

function objectRow(object) {
  const isUrgent = needsAttention(object);
  const times = make("div", "when quiet");
  times.append(object.lastSyncedAt ? when(object.lastSyncedAt, "lastSynced") : words.neverSynced);
  if (object.paused) times.append(` · ${words.paused}`);
  else if (object.nextDue) times.append(" · ", when(object.nextDue, "nextDue"));
  const place = [object.namespace];
  if (object.nodes !== null) place.push(say("nodeCount", { count: object.nodes }));
  if (object.configuredNodes) place.push(say("configuredCount", { count: object.configuredNodes }));
  const agent = object.configured === null || object.configured === "True" ? null
    : make("div", object.configured === "False" ? "quiet failed" : "quiet", `${object.configuredReason}: ${object.configuredMessage}`);
  const reason = isUrgent && !fails(object) ? object.configuredReason : object.reason;
  return make(
    "div",
    `object ${urgency[object.ready] === undefined ? "" : object.ready}${isUrgent ? " failing" : ""}`,
    make("span", "dot"),
    make(
      "div",
      "",
      make("div", "name", object.name),
      make("div", "quiet", place.join(" · ")),
    ),
    make(
      "div",
      "",
      make(isUrgent ? "h3" : "div", "reason", reason || words.waiting),
      fails(object) ? since(object) : null,
      make("div", "quiet", object.message),
      agent,
      ...(isUrgent ? whatToDo(object) : []),
    ),
    times,
  );
}

function since({ hold, readySince }) {
  if (hold) return make("div", "since", when(hold.since, "heldSince", hold.nodes));
  return readySince ? make("div", "since", when(readySince, "failingSince")) : null;
}

/** What to do about each reason and about what is held, and the command that approves that. */
function whatToDo({ namespace, name, ready, reason, hold, configured }) {
  const held = hold?.hash === "memory-lost" ? "MemoryLost" : "ChangeHeld";
  const reasons = [configured === "False" && "AgentFailed", ready === "False" && reason, hold && held];
  const todo = new Set(reasons.map((reason) => words.todo[reason]));
  const parts = [...todo].filter(Boolean).map((text) => make("p", "todo", text));
  if (!hold) return parts;
  const command = `kubectl -n ${namespace} annotate osc ${name} --overwrite ${APPROVE}=${hold.hash}`;
  const key = JSON.stringify(["approve", namespace, name]);
  parts.push(make("div", "command", make("code", "", command), button(words.copyCommand, key, async (control) => {
    await copy(command);
    showCopied(control, words.copyCommand);
  })));
  return parts;
}

function counted(shown, all) {
  return shown === all ? String(all) : say("of", { shown, all });
}

function showNodes() {
  const stateText = (record) => state.states.get(keyOf(record))?.text ?? "";
  const found = state.records.filter((record) => matches(record.text + stateText(record)));
  const page = found.slice(0, state.shown);
  const parts = [];
  const cards = new Map();
  let provider = null;
  for (const record of page) {
    if (record.providerId !== provider) {
      provider = record.providerId;
      parts.push(make("h3", "", say("provider", { id: provider })));
    }
    const key = keyOf(record);
    const kept = state.cards.get(key);
    const text = record.text + stateText(record);
    const card = kept?.text === text ? kept : { text, element: nodeCard(record) };
    cards.set(key, card);
    parts.push(card.element);
  }
  state.cards = cards;
  replace(at("nodes"), parts);
  at("nodes-count").textContent = counted(found.length, state.records.length);
  at("nodes-section").hidden = false;
  at("more").hidden = found.length <= page.length;
  at("more").textContent = say("more", { count: Math.min(NODES_AT_A_TIME, found.length - page.length) });
  at("nothing").hidden = found.length > 0;
  at("nothing").textContent = state.records.length === 0 ? words.empty : words.noMatch;
}

const keyOf = (record) => JSON.stringify([record.providerId, record.nodeName]);

function nodeCard(record) {
  const down = new Set(record.downPorts ?? []);
  const interfaces = record.config.interfaces;
  const said = state.states.get(keyOf(record));
  const badges = [];
  if (down.size > 0) badges.push(say("downPorts", { count: down.size }));
  if (record.leftOutPorts) badges.push(say("leftOut", { count: record.leftOutPorts }));
  if (interfaces.some((one) => one.name !== `multinic${one.id}`)) badges.push(words.olderIds);
  const key = keyOf(record);
  const timeline = button(words.timeline, `timeline ${key}`, () => toggleTimeline(record, card, timeline));
  timeline.setAttribute("aria-expanded", "false");
  const card = make(
    "article",
    "node",
    make(
      "header",
      "",
      make("h4", "name", record.nodeName),
      make("span", "quiet mono", record.instanceId),
      ...badges.map((text) => make("span", "badge", text)),
      make(
        "div",
        "actions",
        make("span", "quiet", when(record.updatedAt, "lastSent")),
        timeline,
        button(words.curl, `curl ${key}`, (element) => copyCurl(record, element)),
      ),
    ),
    ...[said?.message, said?.drift].filter(Boolean).map((text) => make("div", "quiet said", text)),
    interfaceTable(interfaces, down, said),
  );
  if (state.open.has(key)) toggleTimeline(record, card, timeline);
  return card;
}

/** What the agent says of an interface; nothing where its cluster can't be read. */
function agentWords(said, macAddress) {
  const one = said?.interfaces.find((one) => one.macAddress === macAddress);
  if (!one) return [];
  const text = one.state === "failed" ? [one.reason, one.message].filter(Boolean).join(": ") : "";
  const badge = make("span", `badge ${one.state}`, words[one.state]);
  return text ? [badge, make("div", "quiet failed", text)] : [badge];
}

function interfaceTable(interfaces, down, said) {
  const heads = ["name", "mac", "address", "cidr"].map((word) => make("th", "", words[word]));
  const head = make("tr", "", ...heads, make("th", "number", words.mtu));
  const rows = interfaces.map((one) => {
    const name = make("td", "", one.name || String(one.id));
    if (down.has(one.portId)) name.append(make("span", "badge", words.down));
    name.append(...agentWords(said, one.macAddress));
    name.title = one.portId;
    const mtu = make("td", "number", String(one.mtu));
    mtu.dataset.label = words.mtu;
    const plain = [one.macAddress, one.address, one.cidr].map((text) => make("td", "", text));
    return make("tr", "", name, ...plain, mtu);
  });
  return make("table", "", make("thead", "", head), make("tbody", "", ...rows));
}

// ---- the timeline of a node

async function toggleTimeline(record, card, control) {
  const key = keyOf(record);
  const shown = card.querySelector(".timeline");
  if (shown) {
    shown.remove();
    state.open.delete(key);
  } else {
    const list = make("ol", "timeline");
    card.append(list);
    state.open.set(key, { record, list });
    await fillTimeline(record, list);
  }
  control.textContent = shown ? words.timeline : words.hide;
  control.setAttribute("aria-expanded", String(!shown));
}

async function fillTimeline(record, list) {
  const path = `v1/inventory/changes?${addressOf(record)}&nodeName=${escaped(record.nodeName)}`;
  state.tags.delete(path);
  try {
    const [found] = (await ask(path)) ?? [];
    const changes = (found?.changes ?? []).toReversed();
    const lines = changes.map((entry) => make("li", "", fullTime(entry.at), make("span", "", say(entry.change, entry))));
    list.replaceChildren(...(lines.length ? lines : [make("li", "quiet", words.noChanges)]));
  } catch (error) {
    list.replaceChildren(make("li", "quiet", error.message));
  }
}

function fullTime(text) {
  const element = make("time", "", absolute.format(new Date(text)));
  element.dateTime = text;
  return element;
}

function refreshTimelines() {
  for (const { record, list } of state.open.values()) {
    if (list.isConnected) fillTimeline(record, list);
  }
}

// ---- copying

const escaped = (text) => encodeURIComponent(text).replaceAll("'", "%27");
const addressOf = (record) => `providerId=${escaped(record.providerId)}`;

async function copyCurl(record, control) {
  const url = new URL(`${RECORDS}/${escaped(record.nodeName)}?${addressOf(record)}`, document.baseURI);
  const token = sessionStorage.getItem(TOKEN_KEY) ? ' -H "Authorization: Bearer $TOKEN"' : "";
  await copy(`curl -sS${token} '${url}'`);
  showCopied(control, words.curl);
}

function showCopied(control, text) {
  control.textContent = words.copied;
  at("said").textContent = words.copied;
  setTimeout(() => { control.textContent = text; }, 1500);
}

/** The clipboard needs HTTPS or localhost; elsewhere the old way still works. */
async function copy(text) {
  if (navigator.clipboard) {
    try {
      return await navigator.clipboard.writeText(text);
    } catch { /* not allowed: the old way */ }
  }
  const area = make("textarea", "unseen", text);
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

// ---- start

document.documentElement.lang = language;
for (const element of document.querySelectorAll("[data-word]")) {
  element.textContent = words[element.dataset.word];
}
at("search").placeholder = words[at("search").dataset.placeholder];
at("search").addEventListener("input", () => { state.shown = NODES_AT_A_TIME; showObjects(); showNodes(); });
at("more-objects").addEventListener("click", () => { state.shownObjects = Infinity; showObjects(); });
at("more").addEventListener("click", () => { state.shown += NODES_AT_A_TIME; showNodes(); });
at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN_KEY, at("token").value.trim());
  at("token").value = "";
  poll();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
setInterval(() => document.querySelectorAll("time[data-word]").forEach(showAge), 1000);
keepPolling();
