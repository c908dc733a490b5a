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

function show(id, visible) { byId(id).hidden = !visible; }

function list(id, lines) {
  byId(id).replaceChildren(...lines.map((line) => make("li", {}, line)));
  show(id, lines.length > 0);
}

function fail(message) {
  byId("problem").textContent = message;
  show("problem", true);
  byId("status").textContent = "";
  byId("answers").replaceChildren();
}

async function fetchJson(address, options = {}) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  const value = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(value.error || `The server answered ${response.status}.`);
  return value;
}

function address(query) {
  const values = new URLSearchParams();
  if (query.kind === "text") values.set("text", query.text);
  if (query.kind === "item") { values.set("item", query.row); values.set("by", query.by); }
  if (byId("modality").value) values.set("modality", byId("modality").value);
  values.set("k", byId("k").value);
  return values;
}

async function search(query, { remember = true } = {}) {
  asked = query;
  if (running) running.abort();
  running = new AbortController();
  const mine = running;
  show("problem", false);
  list("notes", run.notes);
  showQuery(query);
  byId("status").textContent = "Searching …";
  document.body.classList.add("busy");
  const values = address(query);
  if (remember && query.kind !== "image") history.pushState(null, "", `?${values}`);
  else if (remember) history.pushState(null, "", location.pathname);
  try {
    const options = { signal: mine.signal };
    let path = "api/search";
    if (query.kind === "item") {
      path = `api/item/${encodeURIComponent(query.row)}/similar`;
      values.delete("item");
    } else if (query.kind === "image") {
      Object.assign(options, { method: "POST", body: await fitting(query.file) });
    }
    const found = await fetchJson(`${path}?${values}`, options);
    if (mine === running) showAnswers(found);
  } catch (error) {
    if (mine === running && error.name !== "AbortError") fail(error.message);
  } finally {
    if (mine === running) document.body.classList.remove("busy");
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
    const what = make("p", {}, `Items similar to the ${query.by === "image" ? "picture" : "text"} of item ${query.row}`);
    parts.push(what);
    fetchJson(`api/item/${encodeURIComponent(query.row)}`).then((item) => {
      if (asked !== query) return;
      what.textContent = `Items similar to the ${query.by === "image" ? "picture" : "text"} of “${name(item)}”`;
      if (item.picture) byId("query").prepend(make("img", { src: item.picture.slice(1), alt: "" }));
    }, () => {});
  }
  byId("query").replaceChildren(...parts);
  show("query", parts.length > 0);
}

function name(item) { return (item.text || item.id).trim().replace(/\s+/g, " ").slice(0, 160); }

function showAnswers(found) {
  list("notes", [...run.notes, ...found.notes]);
  const far = found.answers.map((answer) => answer.distance);
  const what = found.modality === "image" ? "codes of pictures" : "codes of texts";
  const query = asked.kind === "text" ? ` for “${asked.text}”` : "";
  const last = far[far.length - 1];
  byId("status").textContent =
    `${plural(far.length, "answer")}${query} from ${what}, ` +
    `${Math.min(...far)} to ${Math.max(...far)} of ${found.num_bits} bits away ` +
    `(${Math.max(1, Math.round(found.seconds * 1000))} ms). ` +
    (found.tied > 1 ? `${found.tied.toLocaleString("en")} items are` : "No other item is") +
    ` at distance ${last}, that of the last answer.`;
  byId("answers").replaceChildren(...found.answers.map((answer) => card(answer, found.modality)));
}

function card(answer, modality) {
  const words = name(answer);
  const picture = answer.picture
    ? make("img", { src: answer.picture.slice(1), alt: `picture ${answer.id}`, width: 192, height: 192, loading: "lazy" })
    : make("div", { className: "none" }, answer.id);
  if (answer.picture) {
    picture.addEventListener("error", () => {
      picture.replaceWith(make("div", { className: "none" }, `${answer.id}: picture not readable`));
    });
  }
  const similar = make("button", { type: "button" }, "Similar");
  similar.setAttribute("aria-label", `Similar to ${words}`);
  similar.addEventListener("click", () => {
    byId("text").value = "";
    search({ kind: "item", row: answer.row, by: modality }).then(() => {
      byId("results").scrollIntoView({ block: "start" });
    });
  });
  const parts = [picture];
  if (answer.text || answer.picture) parts.push(make("p", { className: "words" }, words));
  if (answer.labels.length) parts.push(make("p", { className: "soft" }, answer.labels.join(", ")));
  parts.push(make("div", { className: "last" }, make("span", {}, near(answer)), similar));
  return make("li", { className: "card" }, ...parts);
}

function near(answer) {
  const distance = `distance ${answer.distance}`;
  return answer.score === null ? distance : `score ${answer.score.toFixed(2)}\n${distance}`;
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
  else byId("text").focus();
}

// The address names the query, so that it can be kept and gone back to.
function fromAddress() {
  const values = new URLSearchParams(location.search);
  if (values.get("modality") !== null) byId("modality").value = values.get("modality");
  if ([...byId("k").options].some((option) => option.value === values.get("k"))) byId("k").value = values.get("k");
  byId("text").value = values.get("text") || "";
  if (values.get("item")) search({ kind: "item", row: values.get("item"), by: values.get("by") || "image" }, { remember: false });
  else if (values.get("text")) search({ kind: "text", text: values.get("text") }, { remember: false });
  else if (!run.queries.length) search({ kind: "item", row: run.first_item, by: "image" }, { remember: false });
}

function showRun() {
  document.title = `Search: ${run.title}`;
  byId("title").textContent = `Search: ${run.title}`;
  const stored = Math.max(run.database.image, run.database.text);
  byId("about").textContent = `${plural(stored, "item")} under codes of ${run.num_bits} bits; a distance counts the bits that differ, a score compares real-valued codes.`;
  list("notes", run.notes);
  show("words", run.queries.includes("text"));
  show("drop", run.queries.includes("image"));
  show("examples", run.examples.length > 0);
  byId("text").maxLength = run.limits.letters;
  const counts = [...new Set([12, run.limits.k, 48, 96, run.limits.max_k])].filter((k) => k <= run.limits.max_k);
  counts.sort((a, b) => a - b);
  byId("k").replaceChildren(...counts.map((k) => make("option", { value: k, selected: k === run.limits.k }, String(k))));
  for (const text of run.examples) {
    const button = make("button", { type: "button" }, text);
    button.addEventListener("click", () => searchText(text));
    byId("examples").append(button);
  }
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (run) searchText(byId("text").value);
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
