"use strict";

// So many bytes are read and verified at a time: memory does not grow with the pack, and the page stays awake.
const PIECE = 1 << 20;
// The longest text of the form; the verifier has narrower limits of its own.
const TEXT_MAX = 1 << 20;

const EXIT = { PASS: 0, FAIL: 1, INCONCLUSIVE: 2, MALFORMED: 3, USAGE: 64 };

const MEANING = {
  container: "the file has the one form that a pack can have; nothing hides between its parts",
  manifest: "every file is there, none besides, and each is the one that the manifest lists",
  lines: "each entry has its form and place; where its hash is on file, it is that entry",
  order: "times never run backwards from entry to entry",
  checkpoints: "the entries are those whose root the log’s key signed",
  ladder: "each epoch was sealed by the key of the one before: who has today’s keys could not change yesterday",
  witnesses: "independent parties saw these entries",
  tail: "nothing is missing at the end, as far as a signed head says",
  sessions: "every command has an outcome, and every session an end",
  rolling: "no entry of a session was added or taken away",
  tiles: "the hashes in the pack are those of its entries",
  recordings: "what was recorded of each session is whole, in order, and that session’s",
  directory: "the names behind the ids are those that were committed to at the time",
  rules: "the texts of rules are those that were in force",
  approvals: "signatures of approvals hold; where there are any, only the command line can say so",
  populations: "every list follows from the entries, to the byte: nothing was left out of it",
  controls: "the results of the controls follow from the entries, to the byte",
};

const SENSE = {
  PASS: "Everything that this page can check holds.",
  FAIL: "Something does not hold. Keep the pack as it is, and ask who made it.",
  INCONCLUSIVE: "Nothing was found wrong, and not everything could be decided. That is no pass.",
};

const CLASS = { PASS: "pass", FAIL: "fail", INCONCLUSIVE: "unsure" };
const SIGN = { PASS: "✓", FAIL: "✗", INCONCLUSIVE: "?" };

const at = (id) => document.getElementById(id);

/** The verifier. Only numbers cross its border: where bytes are, how many, and exit codes. */
class Verifier {
  static async load(module) {
    // What it imports belongs to glue that is not used here; if it were called after all, that would end the run.
    const imports = {};
    for (const { module: from, name } of WebAssembly.Module.imports(module)) {
      imports[from] ??= {};
      imports[from][name] = () => { throw new Error(`the verifier called ${name}`); };
    }
    const { exports } = await WebAssembly.instantiate(module, imports);
    const calls = {};
    for (const [name, value] of Object.entries(exports)) {
      // wasm-bindgen puts a hash of the crate's name behind each.
      calls[name.replace(/_[0-9a-f]{16}$/, "")] = value;
    }
    return new Verifier(calls);
  }

  constructor(calls) { this.calls = calls; }

  put(bytes) {
    const place = this.calls.room(bytes.length) >>> 0;
    if (place === 0) throw new Error("the verifier has no room");
    // A new view each time: making room may move the memory.
    new Uint8Array(this.calls.memory.buffer, place, bytes.length).set(bytes);
  }

  create(texts) {
    const parts = texts.map((text) => new TextEncoder().encode(text));
    const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let end = 0;
    for (const part of parts) { all.set(part, end); end += part.length; }
    this.put(all);
    return this.calls.create(...parts.map((part) => part.length));
  }

  feed(bytes) {
    this.put(bytes);
    return this.calls.feed();
  }

  finish() { return this.calls.finish(); }

  answer() {
    const [place, length] = [this.calls.answer() >>> 0, this.calls.answer_length() >>> 0];
    return new TextDecoder().decode(new Uint8Array(this.calls.memory.buffer, place, length));
  }
}

/** The parts of a pack in their order; throws if they are not all of one. */
function inOrder(files) {
  if (files.length === 1) return files;
  const parts = files.map((file) => ({ file, match: /^(.*)\.(\d{3,})$/.exec(file.name) }));
  if (parts.some((part) => !part.match)) throw new Error("several files are chosen that are not parts of a pack");
  parts.sort((a, b) => Number(a.match[2]) - Number(b.match[2]));
  parts.forEach((part, index) => {
    if (part.match[1] !== parts[0].match[1]) throw new Error("the chosen parts belong to different packs");
    if (Number(part.match[2]) !== index + 1) throw new Error(`part ${String(index + 1).padStart(3, "0")} is missing`);
  });
  return parts.map((part) => part.file);
}

/** Reads all of it; returns the exit code and the answer. */
async function verify(verifier, texts, files, progress, stopped) {
  let code = verifier.create(texts);
  const total = files.reduce((sum, file) => sum + file.size, 0);
  let read = 0;
  for (const file of files) {
    for (let from = 0; from < file.size && code === EXIT.PASS; from += PIECE) {
      if (stopped()) return null;
      const piece = new Uint8Array(await file.slice(from, from + PIECE).arrayBuffer());
      code = verifier.feed(piece);
      read += piece.length;
      progress(read, total);
    }
  }
  if (code === EXIT.PASS) code = verifier.finish();
  return { code, answer: verifier.answer() };
}

/** What came from a pack may not steer how it is shown. */
function clean(text) {
  return String(text).replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, "\ufffd");
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = clean(text);
  if (className) made.className = className;
  return made;
}

function row(...cells) {
  const made = document.createElement("tr");
  made.setAttribute("role", "row");
  for (const cell of cells) cell.setAttribute("role", cell.localName === "th" ? "rowheader" : "cell");
  made.append(...cells);
  return made;
}

function heading(text) {
  const made = element("th", text);
  made.scope = "row";
  return made;
}

function checkRow(check) {
  const what = element("td");
  if (check.what) {
    const place = check.entry === null ? "" : `Entry ${check.entry}: `;
    const more = check.failures > 1 ? ` (${check.failures} places)` : "";
    what.append(element("span", place + check.what + more, "what"));
  }
  what.append(element("span", MEANING[check.check] ?? "", "meaning"));
  const result = element("td", `${SIGN[check.verdict]} ${check.verdict}`, `result ${CLASS[check.verdict]}`);
  return row(heading(check.check), result, what);
}

function controlRow(control) {
  const result = element("td", control.result, "result");
  if (control.result === "exceptions") result.classList.add("unsure");
  const name = heading(control.title ?? control.control);
  const tested = control.result === "not tested" ? "–" : control.tested;
  const exceptions = element("td", control.result === "not tested" ? "–" : control.exceptions);
  if (control.untested) exceptions.append(element("span", control.untested, "entries"));
  const entries = control.entries.filter((entry) => entry !== null).slice(0, 10);
  if (entries.length > 0) {
    const more = control.exceptions > entries.length ? ", …" : "";
    exceptions.append(element("span", `entries ${entries.join(", ")}${more}`, "entries"));
  }
  const number = element("td", tested, "number");
  [number.dataset.label, exceptions.dataset.label] = ["Tested", "Exceptions"];
  return row(name, result, number, exceptions);
}

/** What a reader must know that no check says. */
function limits(report, hasPolicy) {
  const told = [];
  if (!hasPolicy) {
    told.push("Not excluded: that who held all keys from the beginning wrote the ledger anew. No policy said who witnessed it.");
  }
  if (report.checks.some((check) => check.check === "approvals" && check.verdict !== "PASS")) {
    told.push("Signatures of approvals are not checked by this page: chancery evidence verify does.");
  }
  if (report.controls.some((control) => control.control === "no-bypass" && control.result === "not tested")) {
    told.push("Nothing here shows that the gateway was not passed by. For that, have the database’s own log handed in.");
  }
  return told;
}

function show(answer, hasPolicy) {
  const report = JSON.parse(answer);
  const verdict = at("verdict");
  verdict.textContent = `${SIGN[report.verdict]} ${report.verdict}`;
  verdict.className = CLASS[report.verdict];
  at("sense").textContent = SENSE[report.verdict];
  const facts = [["Entries", report.entries.toLocaleString("en")], ["Root", report.root]];
  if (report.first_bad_entry !== null) facts.unshift(["First bad entry", report.first_bad_entry]);
  at("facts").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", name), element("dd", value, "mono")]));
  at("limits").replaceChildren(...limits(report, hasPolicy).map((text) => element("li", text)));
  at("checks").tBodies[0].replaceChildren(...report.checks.map(checkRow));
  at("controls-sense").textContent = report.verdict === "FAIL"
    ? "Derived here from the entries of the pack. Something in it does not hold, so rely on none of this."
    : "Derived here from the entries. An exception is a finding about the house, not a failure of the pack.";
  at("controls").tBodies[0].replaceChildren(...report.controls.map(controlRow));
  at("document").textContent = answer;
  at("result").hidden = false;
  verdict.focus();
}

function say(text, bad) {
  at("status").textContent = clean(text);
  at("status").className = bad ? "bad" : "";
}

function mebibytes(bytes) {
  return (bytes / (1 << 20)).toFixed(bytes < 100 << 20 ? 1 : 0);
}

function given() {
  const files = [...at("pack").files];
  const texts = ["roots", "policy", "checkpoint"].map((id) => at(id).value);
  if (files.length === 0) throw new Error("choose a pack");
  if (texts[0].trim() === "") throw new Error("the roots are missing: two keys that were handed to you apart from the pack");
  if (texts.some((text) => text.length > TEXT_MAX)) throw new Error("a text is too long to be what it should be");
  // Notes end with a line feed, which is easily lost on the way through a form.
  if (texts[2].trim() !== "") texts[2] = `${texts[2].replace(/\r\n/g, "\n").replace(/\n+$/, "")}\n`;
  return { files: inOrder(files), texts };
}

async function run(module, stopped) {
  let input;
  try {
    input = given();
  } catch (error) {
    return say(error.message, true);
  }
  at("work").hidden = false;
  const started = performance.now();
  const progress = (read, total) => {
    at("progress").value = total === 0 ? 1 : read / total;
    say(`${mebibytes(read)} of ${mebibytes(total)} MiB read`);
  };
  let done;
  try {
    done = await verify(await Verifier.load(module), input.texts, input.files, progress, stopped);
  } catch (error) {
    return say(`The verifier stopped, which says nothing about the pack (${error.message}). Use the command line.`, true);
  } finally {
    at("work").hidden = true;
  }
  if (done === null) return say("Stopped: nothing was decided.");
  if (done.code === EXIT.MALFORMED || done.code === EXIT.USAGE) return say(JSON.parse(done.answer).error, true);
  say(`Done in ${((performance.now() - started) / 1000).toFixed(1)} s.`);
  show(done.answer, input.texts[1].trim() !== "");
}

async function begin(code) {
  const bytes = Uint8Array.from(atob(code), (letter) => letter.charCodeAt(0));
  const module = await WebAssembly.compile(bytes);
  let stop = false;
  at("stop").addEventListener("click", () => { stop = true; });
  at("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (at("verify").disabled) return;
    stop = false;
    at("result").hidden = true;
    at("document").textContent = "";
    at("verify").disabled = true;
    at("stop").hidden = false;
    say("");
    await run(module, () => stop);
    at("verify").disabled = false;
    at("stop").hidden = true;
    document.body.dataset.state = "done";
  });
  document.body.dataset.state = "ready";
}

begin("{{wasm}}").catch((error) => say(`This browser cannot run the verifier: ${error.message}`, true));
