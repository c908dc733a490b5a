"use strict";

const byId = (id) => document.getElementById(id);
const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;
let run = null;      // what /api/run said
let asked = null;    // the query in view: {kind, ...}
let running = null;  // the request under way
let preview = null;  // address of the picture in view

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

// An address in an answer, from this page, whatever prefix a proxy takes away.
function here(address) { return address.slice(address.lastIndexOf("/api/") + 1); }

function button(text, onclick, title = "") { return make("button", { type: "button", title, onclick }, text); }

function show(id, visible) { byId(id).hidden = !visible; }

function list(id, lines) {
  byId(id).replaceChildren(...lines.map((line) => make("li", {}, line)));
  show(id, lines.length > 0);
}

function tell(problem) {
  byId("problem").textContent = problem;
  show("problem", problem !== "");
}

function fail(message) {
  tell(message);
  byId("status").textContent = "";
  removeAnswers();
}

// The focus stays in the list when the button that had it goes.
function removeAnswers() {
  const within = byId("answers").contains(document.activeElement);
  byId("answers").replaceChildren();
  if (within) byId("answers").focus();
}

// Whole numbers of more digits than a number has here are texts, as they were written.
function parse(json) {
  const token = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;
  return JSON.parse(json.replace(token, (part) => (/^-?\d{16,}$/.test(part) ? `"${part}"` : part)));
}

async function fetchJson(address, options = {}) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  const value = await response.text().then(parse).catch(() => ({}));
  if (response.status === 401) {
    show("login", true);
    throw new Error(byId("token").value && "This is not the token of this server.");
  }
  let why = value.detail;
  if (Array.isArray(why)) why = why.map((one) => `${one.loc[one.loc.length - 1]}: ${one.msg}`).join("; ");
  if (!response.ok) throw new Error(why || `The server answered ${response.status}.`);
  return value;
}

function address(query) {
  const values = new URLSearchParams();
  if (query.kind === "text") values.set("text", query.text);
  if (query.kind === "item") { values.set("item", `/${here(query.item)}`); if (query.by) values.set("by", query.by); }
  if (byId("modality").value) values.set("modality", byId("modality").value);
  if (byId("where").value.trim()) values.set("where", byId("where").value.trim());
  values.set("k", byId("k").value);
  return values;
}

// Without a query the page is as it began: nothing is asked.
async function search(query, { remember = true } = {}) {
  asked = query;
  tell("");
  show("more", false);
  list("notes", run.notes);
  showQuery(query || {});
  document.body.classList.toggle("busy", query !== null);
  if (!query) {
    if (running) running.abort();
    running = null;
    fail("");
    return;
  }
  byId("status").textContent = "Searching …";
  if (remember) history.pushState(null, "", query.kind === "image" ? location.pathname : `?${address(query)}`);
  try {
    if (query.kind === "image") query.body = await fitting(query.file);
    if (asked !== query) return;
    const found = await ask(query, 0);
    if (!found) return;
    removeAnswers();
    addAnswers(found);
    watchEnd();
  } catch (error) {
    if (asked === query && error.name !== "AbortError") fail(error.message);
  } finally {
    if (asked === query) document.body.classList.remove("busy");
  }
}

// One page of answers; undefined if something else was asked meanwhile.
async function ask(query, offset) {
  if (running) running.abort();
  const mine = running = new AbortController();
  const options = { signal: mine.signal }, values = address(query);
  let path = "api/search";
  if (offset) values.set("offset", offset);
  if (query.kind === "item") {
    path = "api/similar";
    values.delete("item");
    values.set("id", new URL(query.item, location).searchParams.get("id"));
  } else if (query.kind === "image") {
    Object.assign(options, { method: "POST", body: query.body });
  }
  const found = await fetchJson(`${path}?${values}`, options);
  return mine === running ? found : undefined;
}

async function more() {
  const query = asked, place = byId("answers").children.length;
  if (byId("more").hidden || byId("more").disabled) return;
  const stood = document.activeElement === byId("more");
  byId("more").disabled = true;
  try {
    const found = await ask(query, place);
    if (found && query === asked) addAnswers(found);
  } catch (error) {
    if (error.name !== "AbortError") { tell(error.message); show("more", false); }
  } finally {
    byId("more").disabled = false;
    if (query === asked) watchEnd();
    if (query === asked && stood && [document.body, byId("more")].includes(document.activeElement)) {
      const next = byId("answers").children[place]?.querySelector("button");  // which is new
      (next || byId("answers")).focus({ preventScroll: true });
    }
  }
}

// A photo larger than the server takes is made smaller here.
async function fitting(file) {
  if (file.size <= run.limits.upload_bytes) return file;
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) throw new Error("image: this file is too large, and no picture that the browser knows");
  const scale = Math.min(1, 2000 / Math.max(bitmap.width, bitmap.height));
  const canvas = make("canvas", {
    width: Math.max(1, Math.round(bitmap.width * scale)),
    height: Math.max(1, Math.round(bitmap.height * scale)),
  });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
}

function showQuery(query) {
  if (preview) URL.revokeObjectURL(preview);
  preview = null;
  const parts = [];
  if (query.kind === "image") {
    preview = URL.createObjectURL(query.file);
    parts.push(make("img", { src: preview, alt: "" }), make("p", {}, `Your picture ${query.file.name || ""}`));
  } else if (query.kind === "item") {
    const whose = query.by ? `the ${query.by === "image" ? "picture" : "text"} of ` : "";
    const what = make("p", {}, `Items similar to ${whose}an item`);
    parts.push(what);
    fetchJson(here(query.item)).then((item) => {
      if (asked !== query) return;
      what.textContent = `Items similar to ${whose}“${name(item)}”`;
      if (item.picture) byId("query").prepend(make("img", { src: here(item.picture), alt: "" }));
    }, () => {});
  }
  byId("query").replaceChildren(...parts);
  show("query", parts.length > 0);
}

function name(item) { return (item.text || item.id).trim().replace(/\s+/g, " ").slice(0, 160); }

function addAnswers(found) {
  list("notes", [...run.notes, ...found.notes]);
  byId("answers").append(...found.answers.map((answer) => card(answer, found)));
  const cards = [...byId("answers").children], far = cards.map((one) => Number(one.dataset.distance));
  const ended = found.answers.length < Number(byId("k").value) || cards.length + Number(byId("k").value) > run.limits.depth;
  show("more", !ended && cards.length > 0);
  const what = run.one_store ? "" : ` from ${found.modality === "image" ? "codes of pictures" : "codes of texts"}`;
  const query = asked.kind === "text" ? ` for “${asked.text}”` : "";
  if (!cards.length) { byId("status").textContent = `No answer${query}${what}: no item passes the filter.`; return; }
  if (!found.answers.length) return;
  const last = found.answers[found.answers.length - 1].distance;
  byId("status").textContent =
    `${plural(far.length, "answer")}${query}${what}, ` +
    `${Math.min(...far)} to ${Math.max(...far)} of ${found.num_bits} bits away ` +
    `(${Math.max(1, Math.round(found.seconds * 1000))} ms). ` +
    (found.tied > 1 ? `${found.tied.toLocaleString("en")} items are` : "No other item is") +
    ` at distance ${last}, that of the last answer.`;
}

function card(answer, found) {
  const words = name(answer);
  const picture = answer.picture
    ? make("img", { src: here(answer.picture), alt: `picture ${answer.id}`, width: 192, height: 192, loading: "lazy" })
    : make("div", { className: "none" }, answer.id);
  if (answer.picture) {
    picture.onerror = () => picture.replaceWith(make("div", { className: "none" }, `${answer.id}: picture not readable`));
  }
  const similar = button("Similar", () => {
    byId("text").value = "";
    const by = run.one_store ? null : found.modality;
    search({ kind: "item", item: answer.item, by }).then(() => byId("results").scrollIntoView({ block: "start" }));
  });
  similar.setAttribute("aria-label", `Similar to ${words}`);
  const parts = [picture];
  if (answer.text || answer.picture) parts.push(make("p", { className: "words" }, words));
  if (answer.labels.length) parts.push(labels(answer.labels));
  const known = Object.entries(answer.metadata).filter(([, value]) => value !== null);
  if (known.length) parts.push(make("p", { className: "soft more" }, known.map(([field, value]) => `${field} ${value}`).join(" · ")));
  parts.push(make("div", { className: "last" }, make("span", {}, near(answer)), ...(run.similar ? [similar] : [])));
  const made = make("li", { className: "card" }, ...parts);
  made.dataset.distance = answer.distance;
  return made;
}

// Where labels can be filtered by, each is a button for that.
function labels(names) {
  if (run.fields.labels !== "list") return make("p", { className: "soft" }, names.join(", "));
  const only = (label) => filter(`labels has '${label.replaceAll("'", "''")}'`);
  return make("p", { className: "labels" }, ...names.map((label) => button(label, () => only(label), "only items with this label")));
}

function filter(where) {
  byId("where").value = where;
  byId("filter").open = true;
  if (asked) search(asked);
}

function near(answer) {
  const distance = `distance ${answer.distance}`;
  return answer.score === null ? distance : `score ${answer.score.toFixed(2)}\n${distance}`;
}

// The end of the list asks for more as soon as it is near the window.
const end = new IntersectionObserver((entries) => { if (entries.some((one) => one.isIntersecting)) more(); }, { rootMargin: "400px" });

function watchEnd() {
  end.disconnect();
  end.observe(byId("more"));
}

function searchPicture(file) {
  if (!run) return;
  if (!run.queries.includes("image")) { fail("This run has no image encoder: search with words or items instead."); return; }
  byId("text").value = "";
  search({ kind: "image", file });
}

function searchText(text) {
  byId("text").value = text;
  if (text.trim()) search({ kind: "text", text: text.trim() });
  else {
    const ways = { image: "a picture", text: "words" };
    if (run.queries.length) tell(`Search with ${run.queries.map((one) => ways[one]).join(" or ")} first.`);
    if (!byId("filter").contains(document.activeElement)) byId("text").focus();
  }
}

// The address names the query, so that it can be kept and gone back to.
function fromAddress() {
  const values = new URLSearchParams(location.search);
  byId("modality").value = values.get("modality") || "";
  if ([...byId("k").options].some((option) => option.value === values.get("k"))) byId("k").value = values.get("k");
  byId("text").value = values.get("text") || "";
  byId("where").value = values.get("where") || "";
  byId("filter").open = byId("where").value !== "";
  const item = values.get("item"), text = values.get("text");
  // addresses of earlier versions name an item by its row alone, or by a path
  const known = item && (item.includes("/api/item") ? item.replace("/api/item/", "/api/item?id=") : `/api/item?id=${encodeURIComponent(item)}`);
  if (item) search({ kind: "item", item: known, by: values.get("by") }, { remember: false });
  else if (text) search({ kind: "text", text }, { remember: false });
  else if (!run.queries.length && run.first && run.similar) search({ kind: "item", item: run.first, by: null }, { remember: false });
  else search(null);
}

const kinds = { str: "words", int: "whole number", float: "number", bool: "true or false", list: "list of words" };

function example() {
  const parts = Object.entries(run.fields).map(([field, kind]) => {
    const shown = /^[A-Za-z_]\w*$/.test(field) ? field : `\`${field}\``;
    return { int: `${shown} >= 3`, float: `${shown} < 1.5`, list: `${shown} has 'cat'`, str: `${shown} = 'cat'`, bool: `${shown} = true` }[kind];
  });
  return parts.slice(-2).join(" and ");
}

function showRun() {
  document.title = `Search: ${run.title}`;
  byId("title").textContent = `Search: ${run.title}`;
  byId("about").textContent = `${plural(run.items, "item")} under codes of ${run.num_bits} bits; a distance counts the bits that differ, a score compares real-valued codes.`;
  list("notes", run.notes);
  show("form", true);
  show("words", run.queries.includes("text"));
  show("drop", run.queries.includes("image"));
  show("examples", run.examples.length > 0);
  show("filter", Object.keys(run.fields).length > 0);
  const some = Object.entries(run.fields).flatMap(([field, kind]) => [make("code", {}, field), ` (${kinds[kind]}), `]);
  byId("fields").replaceChildren("Fields: ", ...some, "for example ", make("code", {}, example()));
  byId("text").maxLength = run.limits.letters;
  const counts = [...new Set([12, run.limits.k, 48, 96, run.limits.max_k])].filter((k) => k <= run.limits.max_k);
  counts.sort((a, b) => a - b);
  byId("k").replaceChildren(...counts.map((k) => make("option", { value: k, selected: k === run.limits.k }, String(k))));
  byId("examples").append(...run.examples.map((text) => button(text, () => searchText(text))));
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!run) return;
  if (!byId("text").value.trim() && asked && asked.kind !== "text") search(asked);
  else searchText(byId("text").value);
});
byId("clear").addEventListener("click", () => filter(""));
byId("more").addEventListener("click", more);
byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token: byId("token").value }) };
  fetch("api/session", options).then(() => fetchJson("api/run")).then(() => location.reload(), (error) => fail(error.message));
});
byId("file").addEventListener("change", () => {
  if (byId("file").files.length) searchPicture(byId("file").files[0]);
  byId("file").value = "";  // the same file may be chosen again
});
for (const id of ["modality", "k"]) byId(id).addEventListener("change", () => { if (asked) search(asked); });
document.addEventListener("dragover", (event) => { event.preventDefault(); show("cover", true); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) show("cover", false); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  show("cover", false);
  if (event.dataTransfer.files.length) searchPicture(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  const files = event.clipboardData ? event.clipboardData.files : [];
  if (files.length) { event.preventDefault(); searchPicture(files[0]); }
});
window.addEventListener("popstate", fromAddress);

fetchJson("api/run").then((value) => { run = value; showRun(); fromAddress(); }, (error) => fail(error.message));
