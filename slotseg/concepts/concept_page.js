// The cards: laid out from the page's data as they come into view. Everything that was typed is set as text.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const names = new Names(data.concepts.length, data.checkpoint, data.format);
const memory = new Memory(names);
const refused = new Set(); // suggested merges that were declined, as "one other"
let unsaved = false;

const make = (tag, values = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), values);
  element.append(...children);
  return element;
};
const makeSvg = (tag, values, ...children) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(values)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};
const rgb = (color) => `rgb(${color.join(" ")})`;
const percent = (share) => `${Number((100 * share).toPrecision(share < 0.0995 ? 2 : 3))} %`;
const shade = (id) => {
  const name = names.nameOf(id);
  if (names.isIgnored(id) || (!name && names.unnamed === "ignore")) return "transparent";
  return rgb(name ? colorOf(name, data) : data.concepts[names.root(id)].color);
};
const provenance = ([name, confidence, isMajority]) => (isMajority
  ? `carried from ${data.carried_from}: ${name ?? "ignored"}, ${Math.round(100 * confidence)} %`
  : `not carried from ${data.carried_from}: ${Math.round(100 * confidence)} % of it was ${name ?? "ignored"}`);
const called = (id) => `${id} ${names.nameOf(id) || hinted(id)}`.trim();
const hinted = (id) => (/^prototype \d+$/.test(data.concepts[id].name) ? "" : data.concepts[id].name);

// Pictures: the photo, a veil over what is not the segment, and the segment's edge.

const drawing = ([photo, , path, box], whole) => {
  const { width, height, uri } = data.photos[photo];
  const view = whole ? [0, 0, width, height] : around(box, width, height);
  return makeSvg("svg", { viewBox: view.join(" "), preserveAspectRatio: `xMidYMid ${whole ? "meet" : "slice"}` },
    makeSvg("image", { href: uri, width, height }),
    makeSvg("path", { class: "veil", d: `M0 0h${width}v${height}h${-width}z${path}` }),
    makeSvg("path", { class: "edge", d: path }));
};
/** A square around a box, no closer than 40 % of the photo's short side. */
const around = ([left, top, right, bottom], width, height) => {
  const short = Math.min(width, height);
  const side = Math.min(short, Math.max(1.12 * Math.max(right - left, bottom - top), 0.4 * short));
  const start = (from, to, length) => Math.min(length - side, Math.max(0, (from + to - side) / 2));
  return [start(left, right, width), start(top, bottom, height), side, side];
};

// A card: an empty article until it comes near the window, and without pictures when it has gone again.

class Card {
  constructor(id) {
    this.id = id;
    this.concept = data.concepts[id];
    this.element = make("article", { className: "card", id: `c${id}` });
    this.element.card = this;
  }

  fill() {
    if (this.name) return;
    const { id, concept } = this;
    this.tiles = make("div", { className: "tiles" });
    this.swatch = make("i", { className: "swatch" });
    this.name = make("input", {
      className: "name", id: `n${id}`, maxLength: 80, autocomplete: "off", ariaLabel: `Name of concept ${id}`,
      placeholder: hinted(id) ? `perhaps ${hinted(id)}` : "name it",
      oninput: () => this.type(), onkeydown: (event) => this.key(event), onfocus: () => offerNames(),
    });
    this.name.setAttribute("list", "names");
    this.same = make("input", {
      className: "same", autocomplete: "off", placeholder: "number or name", ariaLabel: `Concept ${id} is the same as`,
      onchange: () => this.merge(this.same.value), onfocus: () => offerConcepts(id),
    });
    this.same.setAttribute("list", "concepts");
    this.ignore = make("button", { className: "toggle", textContent: "Ignore", onclick: () => this.toggle() });
    this.wrong = make("p", { className: "wrong", hidden: true });
    this.wrong.setAttribute("role", "alert");
    this.also = make("p", { className: "also" });
    this.links = make("p", { className: "links" });
    this.suggestions = make("div", { className: "suggestions" });
    const facts = [`${percent(concept.share)} of pixels`, counted(concept.photos, "photo")];
    if (concept.confidence !== null) facts.push(`${percent(concept.confidence)} sure`);
    this.element.append(
      this.tiles,
      make("div", { className: "title" }, this.swatch, make("label", { htmlFor: `n${id}`, className: "number", textContent: id }), this.name),
      make("p", { className: "facts", textContent: facts.join(" · ") }),
      make("p", { className: "carried", textContent: concept.carried ? provenance(concept.carried) : "" }), this.also, this.links,
      make("div", { className: "actions" }, make("label", {}, "same as ", this.same), this.ignore), this.wrong, this.suggestions);
  }

  showPictures() {
    this.fill();
    if (this.tiles.childElementCount) return;
    const { segments } = this.concept;
    this.tiles.append(...segments.slice(0, 5).map((segment, i) => make("button", {
      className: "tile", title: data.photos[segment[0]].name, onclick: () => openViewer(this.id, i),
      ariaLabel: `Segment ${i + 1} of concept ${this.id}, large`,
    }, drawing(segment, $("whole").checked))));
    if (!segments.length) this.tiles.append(make("p", { className: "soft", textContent: "It wins no pixel in these photos." }));
    this.refresh();
  }

  hidePictures() {
    this.tiles?.replaceChildren();
    this.suggestions?.replaceChildren();
  }

  type() {
    names.setName(this.id, this.name.value);
    changed();
  }

  key(event) {
    if (event.key !== "Enter" || event.isComposing) return;
    event.preventDefault();
    const shown = cards.filter((card) => !card.element.hidden);
    goTo(shown[shown.indexOf(this) + (event.shiftKey ? -1 : 1)]);
  }

  merge(words) {
    const offered = Number.parseInt(words, 10);
    const other = !words.trim() ? null : byId[offered] && called(offered) === words.trim() ? offered : names.find(words);
    if (words.trim() && other === null) {
      this.complain(`There is no concept “${words.trim().slice(0, 40)}”; expected 0 to ${names.number - 1}, or a name.`);
      return;
    }
    this.complain(names.setSame(this.id, other));
    if (this.wrong.hidden) changed();
  }

  complain(message) {
    this.wrong.textContent = message;
    this.wrong.hidden = !message;
  }

  toggle() {
    names.setIgnored(this.id, !names.ignored.has(this.id));
    changed();
  }

  refresh() {
    const { id, concept } = this, active = document.activeElement;
    const other = names.sameAs.get(id), ignored = names.isIgnored(id);
    this.swatch.style.background = shade(id);
    this.name.readOnly = other !== undefined || ignored;
    const text = other === undefined ? names.names.get(id) ?? "" : names.nameOf(id);
    const typing = this.name === active && !keyOf(this.name.value) && !text;
    if (tidy(this.name.value) !== text && !typing) this.name.value = text;
    if (this.same !== active || other !== undefined) this.same.value = other === undefined ? "" : called(other);
    if (other !== undefined) this.complain("");
    this.ignore.setAttribute("aria-pressed", String(ignored));
    this.ignore.disabled = ignored && !names.ignored.has(id);
    this.element.classList.toggle("ignored", ignored);
    this.also.replaceChildren(...list("one class with", (classes.get(names.classOf(id)) ?? []).filter((i) => i !== id && !ignored)));
    this.links.replaceChildren(
      ...list("near", concept.near.slice(0, 3).map(([i]) => i)), ...list("often with", concept.together.slice(0, 3).map(([i]) => i)));
    this.suggest();
  }

  suggest() {
    this.suggestions.replaceChildren(...suggestedFor(this.id).slice(0, 2).map((other) => {
      const pictures = data.concepts[other].segments.slice(0, 3).map((segment) => drawing(segment, false));
      return make("div", { className: "suggestion" },
        make("span", { className: "minis" }, ...pictures),
        make("button", { className: "main", textContent: `Same as ${called(other)}`, onclick: () => accept(this.id, other) }),
        make("button", { className: "text", textContent: "No", ariaLabel: `Not the same as ${other}`, onclick: () => decline(this.id, other) }));
    }));
  }
}

const list = (words, ids) => (ids.length
  ? [make("span", {}, `${words} `, ...ids.slice(0, 12).map((id) => make("button", { className: "text link", onclick: () => goTo(byId[id]) },
      make("i", { className: "swatch", style: `background:${shade(id)}` }), called(id))), ids.length > 12 ? ` and ${ids.length - 12} more` : "")]
  : []);

// Suggested merges.

const pairs = new Map(); // of a prototype: those it may be the same as
for (const [one, other] of data.merges) {
  pairs.set(one, [...(pairs.get(one) ?? []), other]);
  pairs.set(other, [...(pairs.get(other) ?? []), one]);
}
const suggestedFor = (id) => (names.isIgnored(id) ? [] : (pairs.get(id) ?? []).filter((other) =>
  names.classOf(id) !== names.classOf(other) && !names.isIgnored(other) && !(names.nameOf(id) && names.nameOf(other))
  && !refused.has(`${Math.min(id, other)} ${Math.max(id, other)}`)));
const accept = (id, other) => {
  // The one without a name follows, or else the smaller one; what follows another already brings that along.
  const [one, two] = [names.root(id), names.root(other)];
  const follows = names.nameOf(one) ? two : names.nameOf(two) || data.concepts[one].share <= data.concepts[two].share ? one : two;
  names.setSame(follows, follows === one ? two : one);
  changed();
};
const decline = (id, other) => {
  refused.add(`${Math.min(id, other)} ${Math.max(id, other)}`);
  changed();
};

// After every change: remember it, and say how far one is.

const classes = new Map(); // prototypes of each class
const changed = ({ kept = false } = {}) => {
  classes.clear();
  for (let id = 0; id < names.number; id++) {
    const key = names.classOf(id);
    if (classes.has(key)) classes.get(key).push(id); else classes.set(key, [id]);
  }
  if (!kept) {
    unsaved = true;
    remember();
  }
  for (const card of cards) if (card.tiles?.childElementCount) card.refresh();
  $("unnamed").value = names.unnamed;
  showProgress();
};
const remember = () => {
  const works = memory.write({ ...names.toFile(), refused: [...refused] });
  $("kept").textContent = works ? "Kept in this browser." : "This browser keeps nothing of it: save names.json before you leave.";
  $("kept").classList.toggle("wrong", !works);
  addEventListener("beforeunload", warn);
  if (works) removeEventListener("beforeunload", warn);
};
const warn = (event) => {
  if (unsaved) event.preventDefault();
};
const showProgress = () => {
  const parts = [...classes].map(([key, ids]) => ({
    share: ids.reduce((sum, id) => sum + data.concepts[id].share, 0), ids, ignored: key === "ignored", name: names.nameOf(ids[0]),
  }));
  const done = parts.filter((part) => part.name || part.ignored), total = Math.max(1e-9, parts.reduce((sum, part) => sum + part.share, 0));
  const named = parts.filter((part) => part.name), sum = (some, of) => some.reduce((all, part) => all + of(part), 0);
  const numNamed = sum(named, (part) => part.ids.length), numIgnored = sum(done, (part) => part.ids.length) - numNamed;
  $("progress").textContent = `${numNamed.toLocaleString("en")} of ${names.number.toLocaleString("en")} named, ${counted(named.length, "name")}`
    + `${numIgnored ? `, ${numIgnored.toLocaleString("en")} ignored` : ""}: ${percent(sum(done, (part) => part.share) / total)} of the pixels`;
  $("bar").replaceChildren(...done.sort((a, b) => b.share - a.share).slice(0, 80).map((part) => {
    const piece = make("i", { title: `${part.name || "ignored"}: ${percent(part.share / total)}`, className: part.ignored ? "ignored" : "" });
    piece.style.width = `${(100 * part.share) / total}%`;
    if (part.name) piece.style.background = shade(part.ids[0]);
    return piece;
  }));
};

// Which cards are shown, and in which order. Naming does not move them: only the tools do.

const orders = {
  share: (a, b) => b.concept.share - a.concept.share,
  photos: (a, b) => b.concept.photos - a.concept.photos,
  confidence: (a, b) => (b.concept.confidence ?? -1) - (a.concept.confidence ?? -1),
  alike: (a, b) => ranks.get(a.id) - ranks.get(b.id),
  number: () => 0,
  carried: (a, b) => (a.concept.carried?.[1] ?? 2) - (b.concept.carried?.[1] ?? 2) || b.concept.share - a.concept.share,
  name: (a, b) => Number(!names.nameOf(a.id)) - Number(!names.nameOf(b.id)) || names.nameOf(a.id).localeCompare(names.nameOf(b.id)),
};
const filters = {
  all: () => true,
  open: (id) => !names.nameOf(id) && !names.isIgnored(id),
  named: (id) => Boolean(names.nameOf(id)),
  ignored: (id) => names.isIgnored(id),
  suggested: (id) => suggestedFor(id).length > 0,
};
const arrange = () => {
  const words = $("search").value.trim().toLowerCase();
  const found = ({ id, concept }) => !words || String(id) === words || called(id).toLowerCase().includes(words)
    || (!/^\d+$/.test(words) && concept.segments.some(([photo]) => data.photos[photo].name.toLowerCase().includes(words)));
  cards.sort((a, b) => orders[$("sort").value](a, b) || a.id - b.id);
  let shown = 0;
  for (const card of cards) {
    card.element.hidden = !(filters[$("show").value](card.id) && found(card));
    shown += !card.element.hidden;
  }
  $("cards").append(...cards.map((card) => card.element));
  $("count").textContent = shown === cards.length ? "" : `${shown.toLocaleString("en")} shown`;
  $("nothing").hidden = shown > 0;
};
const goTo = (card) => {
  if (!card) return;
  if (card.element.hidden) showAll();
  card.showPictures();
  card.element.scrollIntoView({ block: "center" });
  card.name.focus({ preventScroll: true });
};
const showAll = () => {
  $("search").value = "";
  $("show").value = "all";
  arrange();
};

// Suggestions while typing.

const offer = (id, options) => $(id).replaceChildren(...options.map((value) => make("option", { value })));
const offerNames = () => offer("names", [...new Map([...names.names.values()].map((name) => [keyOf(name), name])).values()].sort());
const offerConcepts = (id) => offer("concepts", cards.filter((card) => card.id !== id && card.concept.share > 0).map((card) => called(card.id)));

// The file.

const save = () => {
  const file = new Blob([`${JSON.stringify(names.toFile(), null, 2)}\n`], { type: "application/json" });
  const link = make("a", { href: URL.createObjectURL(file), download: "names.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  unsaved = false;
};
let before = null; // what Undo goes back to
const open = async (file) => {
  if (!file) return;
  before = { ...names.toFile() };
  try {
    tell(names.take(JSON.parse((await file.text()).replace(/^\ufeff/, ""))), true);
    changed();
  } catch (error) {
    restore(before);
    tell([`${file.name} was not taken: ${error.message}.`], false);
  }
};
const restore = (file) => {
  names.clear();
  try {
    if (file) names.take(file);
  } catch {} // nothing was named
  if (file && file.unnamed) names.unnamed = file.unnamed;
};
const tell = (lines, undoable) => {
  $("notice").firstElementChild.replaceChildren(...lines.map((line) => make("p", { textContent: line })));
  $("undo").hidden = !undoable;
  $("notice").hidden = false;
};

// The large picture.

let looked = [0, 0];
const openViewer = (id, i) => {
  const { segments } = data.concepts[id];
  looked = [id, (i + segments.length) % segments.length];
  const [photo, score] = segments[looked[1]];
  $("picture").replaceChildren(drawing(segments[looked[1]], true));
  $("caption").textContent = `${called(id)}, segment ${looked[1] + 1} of ${segments.length}: ${data.photos[photo].name}, score ${score.toFixed(2)}`;
  if (!$("viewer").open) $("viewer").showModal();
};
const turn = (step) => openViewer(looked[0], looked[1] + step);

// Everything is wired up here.

const byId = data.concepts.map((_, id) => new Card(id)), cards = [...byId];
const ranks = new Map(); // a walk from the largest to its closest, to that one's closest, ...
for (const start of [...byId].sort(orders.share)) {
  for (let { id } = start; id !== undefined && !ranks.has(id);) {
    ranks.set(id, ranks.size);
    id = data.concepts[id].near.map(([other]) => other).find((other) => !ranks.has(other));
  }
}
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) target.card.showPictures(); else target.card.hidePictures();
  }
}, { rootMargin: "600px" });
const redraw = () => {
  document.body.classList.toggle("whole", $("whole").checked);
  for (const card of cards) {
    if (!card.tiles?.childElementCount) continue;
    card.hidePictures();
    card.showPictures();
  }
};

for (const id of ["search", "show", "sort"]) $(id).addEventListener("input", arrange);
$("whole").addEventListener("change", redraw);
$("clear").addEventListener("click", showAll);
$("unnamed").addEventListener("change", () => { names.unnamed = $("unnamed").value; changed(); });
$("save").addEventListener("click", save);
$("open").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => { open($("file").files[0]); $("file").value = ""; });
$("undo").addEventListener("click", () => { restore(before); changed(); $("notice").hidden = true; });
$("dismiss").addEventListener("click", () => { $("notice").hidden = true; });
$("close").addEventListener("click", () => $("viewer").close());
$("previous").addEventListener("click", () => turn(-1));
$("next").addEventListener("click", () => turn(1));
$("dimmed").addEventListener("change", () => $("viewer").classList.toggle("plain", !$("dimmed").checked));
$("viewer").addEventListener("click", (event) => { if (event.target === $("viewer")) $("viewer").close(); });
$("viewer").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) turn(step);
});
addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT)$/.test(event.target.tagName) && event.target.type !== "checkbox";
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  $("search").focus();
});
const dropping = (is) => (event) => {
  if (!event.dataTransfer?.types.includes("Files")) return;
  event.preventDefault();
  $("drop").hidden = !is;
};
addEventListener("dragover", dropping(true));
addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
addEventListener("drop", (event) => { dropping(false)(event); open(event.dataTransfer?.files[0]); });
addEventListener("storage", (event) => { // typed in another tab
  if (event.key === memory.key) recall();
});
const recall = () => {
  const kept = memory.read() ?? data.names;
  restore(kept);
  refused.clear();
  for (const pair of kept?.refused ?? []) refused.add(String(pair));
  changed({ kept: true });
};

for (const card of cards) {
  $("cards").append(card.element);
  seen.observe(card.element);
}
recall();
arrange();
