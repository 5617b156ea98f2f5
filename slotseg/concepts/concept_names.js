"use strict";
// What a person says of prototypes, its file names.json, and what the browser remembers of it.
// slotseg/labels/naming.py reads the file and has the same rules.

const tidy = (text) => String(text).normalize("NFC").replace(/[\p{Cc}\p{Cs}]/gu, " ").trim().replace(/\s+/g, " ");
const keyOf = (name) => tidy(name).normalize("NFKC").toLowerCase().replace(/[\s_-]+/g, "");

const colorOf = (name, { salt, lightness, chroma }) => {
  let number = (2166136261 ^ salt) >>> 0;
  for (const byte of new TextEncoder().encode(keyOf(name))) number = Math.imul(number ^ byte, 16777619) >>> 0;
  number = (number ^ (number >>> 15)) >>> 0;
  const l = lightness[Math.floor(number / 360) % lightness.length];
  const c = chroma[Math.floor(number / (360 * lightness.length)) % chroma.length];
  const hue = ((number % 360) * Math.PI) / 180, a = c * Math.cos(hue), b = c * Math.sin(hue);
  const long = (l + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const medium = (l - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const short = (l - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
    -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
    -0.0041960863 * long - 0.7034186147 * medium + 1.707614701 * short,
  ].map((linear) => {
    const value = Math.min(1, Math.max(0, linear));
    return Math.floor(255 * (value <= 0.0031308 ? 12.92 * value : 1.055 * value ** (1 / 2.4) - 0.055) + 0.5);
  });
};

class Names {
  constructor(number, checkpoint, format) {
    Object.assign(this, { number, checkpoint, format });
    this.clear();
  }

  clear() {
    this.names = new Map();
    this.sameAs = new Map();
    this.ignored = new Set();
    this.unnamed = "keep";
  }

  root(id) {
    while (this.sameAs.has(id)) id = this.sameAs.get(id);
    return id;
  }

  isIgnored(id) {
    while (!this.ignored.has(id) && this.sameAs.has(id)) id = this.sameAs.get(id);
    return this.ignored.has(id);
  }

  nameOf(id) {
    return this.isIgnored(id) ? "" : this.names.get(this.root(id)) ?? "";
  }

  /** What prototypes of one class share. */
  classOf(id) {
    if (this.isIgnored(id)) return "ignored";
    return keyOf(this.nameOf(id) || `prototype ${this.root(id)}`);
  }

  setName(id, text) {
    if (keyOf(text)) this.names.set(id, tidy(text)); else this.names.delete(id);
  }

  /** Says what is wrong, or nothing. */
  setSame(id, other) {
    if (other === null) this.sameAs.delete(id);
    else if (this.closesCircle(id, other)) return id === other ? "That is this concept." : `${other} is the same as ${id} already.`;
    else this.sameAs.set(id, other);
    return "";
  }

  closesCircle(id, other) {
    for (; other !== undefined; other = this.sameAs.get(other)) if (other === id) return true;
    return false;
  }

  setIgnored(id, ignored) {
    if (ignored) this.ignored.add(id); else this.ignored.delete(id);
  }

  /** The prototype that words mean: a name, or a number; null if none. */
  find(words, names = this.names) {
    const key = keyOf(words);
    for (const [id, name] of names) if (typeof words === "string" && keyOf(name) === key) return id;
    const numbered = /^\s*(?:prototype\s*)?(\d{1,9})\s*$/i.exec(words);
    return numbered && Number(numbered[1]) < this.number ? Number(numbered[1]) : null;
  }

  toFile() {
    const sorted = (entries) => Object.fromEntries([...entries].sort(([a], [b]) => a - b));
    return {
      format: this.format, checkpoint: this.checkpoint, num_prototypes: this.number, unnamed: this.unnamed,
      names: sorted(this.names), same_as: sorted(this.sameAs), ignore: [...this.ignored].sort((a, b) => a - b),
    };
  }

  /** Take what a file says; other prototypes stay as they are. Returns what there is to say of it. */
  take(file) {
    const isObject = (value) => value !== null && typeof value === "object";
    if (!isObject(file) || Array.isArray(file) || (file.format ?? this.format) !== this.format) {
      throw new Error(`it is no names.json of format ${this.format}`);
    }
    const lists = ["names", "same_as", "ignore"].map((key) => file[key] ?? []);
    if (!lists.every(isObject) || !lists.some((list) => Object.keys(list).length)) throw new Error("it names nothing");
    const [names, sameAs, ignored] = lists;
    const missing = new Set(), wrong = [], read = new Map();
    const number = (value) => {
      const id = this.find(value, []);
      if (id === null) missing.add(String(value).slice(0, 40));
      return id;
    };
    for (const [key, name] of Object.entries(names)) {
      if (name === null) continue;
      const id = number(key);
      if (id === null) continue;
      if (typeof name === "string" && keyOf(name)) read.set(id, tidy(name)); else wrong.push(`the name of ${id}`);
    }
    for (const [id, name] of read) {
      this.names.set(id, name);
      this.sameAs.delete(id);
      this.ignored.delete(id);
    }
    let merged = 0, left = 0;
    for (const [key, words] of Object.entries(sameAs)) {
      if (words === null) continue;
      const id = number(key), other = this.find(words, read);
      if (other === null) missing.add(String(words).slice(0, 40));
      if (id === null || other === null) continue;
      if (this.setSame(id, other)) wrong.push(`${id} same as ${other}, which closes a circle`); else merged += 1;
    }
    for (const value of Object.values(ignored)) {
      const id = number(value);
      if (id === null) continue;
      this.ignored.add(id);
      left += 1;
    }
    if (file.unnamed === "keep" || file.unnamed === "ignore") this.unnamed = file.unnamed;
    const notes = [`Taken: ${counted(read.size, "name")}, ${merged} same as another, ${left} ignored.`];
    if (file.checkpoint && file.checkpoint !== this.checkpoint) {
      notes.push("They were given to another run, or to another state of this one, whose prototypes may be other things: look them over.");
    }
    if (Number.isInteger(file.num_prototypes) && file.num_prototypes !== this.number) {
      notes.push(`The file is of ${file.num_prototypes} prototypes, this page of ${this.number}.`);
    }
    if (missing.size) notes.push(`Not in this run, and left out: ${some([...missing])}.`);
    if (wrong.length) notes.push(`Left out: ${some(wrong)}.`);
    return notes;
  }
}

const counted = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
const some = (words) => words.slice(0, 8).join(", ") + (words.length > 8 ? ` and ${words.length - 8} more` : "");

/** What the browser keeps for a page of one checkpoint; it may refuse to. */
class Memory {
  constructor(names) {
    this.key = `slotseg names ${names.checkpoint} ${names.number}`;
  }

  read() {
    try {
      return JSON.parse(localStorage.getItem(this.key));
    } catch {
      return null;
    }
  }

  /** Whether it is kept. */
  write(value) {
    try {
      localStorage.setItem(this.key, JSON.stringify(value));
      return true;
    } catch {
      return false;
    }
  }
}
