// Draws the state of widget.HumanEditor and sends actions back. Text is set as text, never as HTML.

const TONES = { present: "said to be there", absent: "said not to be there", uncertain: "said with doubt", other: "" };
const VERDICTS = { right: "correct", wrong: "corrected", unsure: "unsure", "": "not judged yet" };
const KEYS = [
  ["Tab, Shift+Tab", "next, previous marked words"], ["w, Shift+W", "next, previous word of any kind"],
  ["e", "one word more"], ["1 … 9", "take that correction"],
  ["Enter", "type a correction of the chosen words"], ["Delete", "take the chosen words out"],
  ["Esc", "leave the chosen words"], ["c", "the answer is correct"], ["u", "unsure"], ["z", "undo"],
  ["n or →", "next answer"], ["p or ←", "previous answer"], ["f", "next open answer: not judged yet"],
  ["o", "outlines on, off"], ["r", "reference on, off"], ["?", "these keys on, off"],
];

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

function render({ model, el }) {
  const root = make("div", { class: "hm", tabindex: "0", "data-lm-suppress-shortcuts": "true", role: "group",
                             "aria-label": "Judge and correct answers" });
  const heard = make("div", { class: "hm-heard", "aria-live": "polite" }); // what a screen reader says of a change
  el.append(root, heard);
  let chosen = null; // {start, end, span}: span is one of state.spans, or null for words that were picked
  let view = { outlines: true, large: false, keys: false, key: null };
  let urls = [];

  const state = () => model.get("state");
  const act = (what, more = {}) => model.send({ do: what, ...more });
  const button = (text, key, run, more = {}) =>
    make("button", { type: "button", onclick: () => { run(); root.focus({ preventScroll: true }); }, ...more },
         text, key ? make("kbd", {}, key) : null);

  function choose(start, end, span = null) {
    chosen = { start, end, span };
    draw();
  }

  function leave() {
    chosen = null;
    draw();
    root.focus({ preventScroll: true });
  }

  function send(changes) {
    chosen = null;
    act("replace", { changes });
    root.focus({ preventScroll: true });
  }

  function head(s) {
    const counts = s.counts ?? {};
    const done = ["right", "wrong", "unsure"].map((name) =>
      make("i", { class: name, style: `width:${(100 * (counts[name] ?? 0)) / Math.max(s.total, 1)}%` }));
    const judged = (counts.right ?? 0) + (counts.wrong ?? 0) + (counts.unsure ?? 0);
    const told = `${judged} of ${s.total} judged: ${counts.right ?? 0} correct, ${counts.wrong ?? 0} corrected, `
      + `${counts.unsure ?? 0} unsure`;
    return make("header", {},
      make("nav", {}, button("‹", "", () => act("go", { to: s.at - 1 }), { title: "previous (p)", class: "step" }),
        make("b", {}, s.total ? `Answer ${s.at + 1} of ${s.total}` : "No answers"),
        button("›", "", () => act("go", { to: s.at + 1 }), { title: "next (n)", class: "step" }),
        make("span", { class: `verdict ${s.verdict}` }, VERDICTS[s.verdict ?? ""])),
      make("div", { class: "progress", title: told }, make("div", { class: "bar" }, ...done), make("small", {}, told)),
      who(s));
  }

  function who(s) {
    const name = make("input", { class: "name", placeholder: "your initials", maxlength: "32", value: s.annotator,
                                 "aria-label": "Your initials", spellcheck: "false" });
    const enter = () => { if (name.value.trim() && name.value.trim() !== s.annotator) {
      act("sign in", { name: name.value }); root.focus({ preventScroll: true }); } };
    name.addEventListener("keydown", (event) => { if (event.key === "Enter") enter(); });
    return make("div", { class: s.annotator ? "who" : "who wanted" }, make("label", {}, "Annotator ", name),
      make("button", { type: "button", class: "begin", onclick: enter }, s.annotator ? "Change" : "Begin"));
  }

  // The words outside the spans.
  function words(s) {
    const all = [...s.answer.matchAll(/[\p{L}\p{N}'’-]+/gu)].map((m) => ({ start: m.index, end: m.index + m[0].length }));
    return all.filter((word) => !s.spans.some((span) => word.start < span.end && span.start < word.end));
  }

  // The answer in pieces that are whole words, spans or changes; each piece knows its characters.
  function pieces(s) {
    const cuts = new Set([0, s.answer.length]);
    for (const part of [...s.spans, ...s.changes, ...(chosen ? [chosen] : [])]) cuts.add(part.start).add(part.end);
    for (const word of words(s)) cuts.add(word.start).add(word.end);
    const order = [...cuts].filter((cut) => cut <= s.answer.length).sort((a, b) => a - b);
    return order.slice(0, -1).map((start, i) => ({ start, end: order[i + 1] }));
  }

  function answer(s) {
    const body = make("p", { class: "answer", dir: "auto" });
    const inside = (part, list) => list.find((one) => one.start <= part.start && part.end <= one.end);
    for (const part of pieces(s)) {
      const span = inside(part, s.spans);
      const change = inside(part, s.changes);
      const words = s.answer.slice(part.start, part.end);
      const names = [span ? `span ${span.tone}` : /[\p{L}\p{N}]/u.test(words) ? "word" : "",
                     change ? "gone" : "", chosen && inside(part, [chosen]) ? "chosen" : ""];
      const pick = span ?? (names[0] === "word" ? part : null);
      body.append(make("span", {
        class: names.join(" ").trim(), "data-start": part.start, title: span ? span.label : null,
        onclick: pick && (() => { if (document.getSelection().isCollapsed) {
          choose(pick.start, pick.end, span ?? null); root.focus({ preventScroll: true }); } }),
      }, words));
      if (change && part.end === change.end && change.new) body.append(make("ins", {}, change.new));
    }
    body.addEventListener("mouseup", () => setTimeout(() => picked(body)));
    return body;
  }

  // Whole words that were picked with the mouse, in characters of the answer.
  function picked(body) {
    const selection = document.getSelection();
    if (selection.isCollapsed || !selection.rangeCount) return;
    const range = selection.getRangeAt(0);
    const at = (node, offset) => {
      const piece = (node.nodeType === 3 ? node.parentElement : node).closest?.("[data-start]");
      return piece && body.contains(piece) ? Number(piece.dataset.start) + (node.nodeType === 3 ? offset : 0) : null;
    };
    let [start, end] = [at(range.startContainer, range.startOffset), at(range.endContainer, range.endOffset)];
    if (start === null || end === null || start >= end) return;
    const text = state().answer;
    while (start < end && /\s/.test(text[start])) start += 1;
    while (end > start && /\s/.test(text[end - 1])) end -= 1;
    const letter = /[\p{L}\p{N}]/u;
    while (start > 0 && letter.test(text[start - 1]) && letter.test(text[start])) start -= 1;
    while (end < text.length && letter.test(text[end]) && letter.test(text[end - 1])) end += 1;
    selection.removeAllRanges();
    if (start < end) choose(start, end);
    root.focus({ preventScroll: true });
  }

  function panel(s) {
    if (!chosen) {
      const hint = s.spans.length ? "Click marked words (or Tab), or pick any words with the mouse (or w and e), to correct them."
                                  : "Click a word (or w), or pick some with the mouse (or e), to correct them.";
      return make("div", { class: "panel empty" }, hint);
    }
    const { start, end, span } = chosen;
    const field = make("input", { class: "new", value: s.answer.slice(start, end), "aria-label": "Correction",
                                  spellcheck: "false", dir: "auto" });
    const typed = () => send([{ start, end, new: field.value }]);
    field.addEventListener("keydown", (event) => { if (event.key === "Enter") typed(); });
    const changed = s.changes.some((change) => change.start < end && start < change.end);
    const choices = (span?.choices ?? []).slice(0, 9).map((choice, i) =>
      make("button", { type: "button", class: "choice", onclick: () => send(choice.changes) },
           make("kbd", {}, String(i + 1)), choice.label));
    return make("div", { class: "panel" },
      make("div", { class: "about" }, make("q", {}, s.answer.slice(start, end)),
        span ? make("span", { class: `tone ${span.tone}` }, TONES[span.tone] || span.label) : null),
      choices.length ? make("div", { class: "choices" }, make("span", {}, "It should be"), ...choices) : null,
      make("div", { class: "typed" }, field,
        make("button", { type: "button", class: "apply", onclick: typed }, "Replace"),
        make("button", { type: "button", class: "remove", onclick: () => send([{ start, end, new: "" }]) }, "Take out"),
        changed ? make("button", { type: "button", class: "restore",
                                   onclick: () => { chosen = null; act("restore", { start, end }); } }, "As it was")
                : null));
  }

  function verdicts(s) {
    return make("div", { class: "verdicts" },
      button("Correct", "c", () => act("mark", { value: "right" }), { class: "right", disabled: !s.annotator }),
      button("Unsure", "u", () => act("mark", { value: "unsure" }), { class: "unsure", disabled: !s.annotator }),
      button("Undo", "z", () => act("undo"), { class: "undo", disabled: !s.annotator }),
      button("Next", "n", () => act("go", { to: s.at + 1 }), { class: "next" }),
      button("Next open", "f", () => act("next open"), { class: "open" }));
  }

  function foot(s) {
    const file = make("input", { type: "file", accept: ".jsonl", hidden: true, onchange: async () => {
      if (file.files[0]) act("import", { text: await file.files[0].text() }); } });
    return make("footer", {},
      button(s.reference === null ? "Show reference" : "Hide reference", "r", () => act("reference")),
      button("Agreement", "", () => act("agreement"), { class: "agree" }),
      button("Export", "", () => act("export"), { class: "export" }),
      button("Import", "", () => file.click(), { class: "import" }), file,
      button("Keys", "?", () => { view.keys = !view.keys; draw(); }),
      make("small", {}, s.annotator ? `saved after every action in ${s.folder}` : ""));
  }

  function picture() {
    const shown = urls[view.outlines ? 0 : urls.length - 1];
    return make("figure", { class: view.large ? "large" : "" },
      make("img", { src: shown, alt: state().alt, title: "click: larger, smaller",
                    onclick: () => { view.large = !view.large; draw(); } }),
      urls.length > 1
        ? make("figcaption", {}, button(view.outlines ? "Lesions outlined" : "Without outlines", "o", toggle))
        : make("figcaption", {}, "no lesion is marked"));
  }

  function toggle() {
    view.outlines = !view.outlines;
    draw();
  }

  function table(rows) {
    return make("table", {}, ...rows.map((row, i) =>
      make("tr", {}, ...row.map((cell) => make(i ? "td" : "th", {}, cell)))));
  }

  function draw() {
    const s = state();
    if (s.key !== view.key) { view.key = s.key; chosen = null; }
    const parts = [head(s)];
    if (s.message) parts.push(make("p", { class: "message", role: "status" }, s.message));
    if (s.key) {
      const result = s.changes.length
        ? make("p", { class: "result", dir: "auto" }, make("b", {}, "Reads now "), s.text || "(nothing)") : null;
      parts.push(make("div", { class: "body" }, picture(), make("section", {},
        make("p", { class: "question", dir: "auto" }, s.question), answer(s), panel(s), result, verdicts(s),
        s.reference === null ? null
          : make("p", { class: "reference", dir: "auto" }, make("b", {}, "Reference "), s.reference),
        s.trouble ? make("p", { class: "message" }, s.trouble) : null)));
      if (s.agreement.length) parts.push(table(s.agreement));
      if (view.keys) parts.push(make("dl", { class: "keys" },
        ...KEYS.flatMap(([key, what]) => [make("dt", {}, make("kbd", {}, key)), make("dd", {}, what)])));
      parts.push(foot(s));
    }
    const focused = root.contains(document.activeElement);
    root.replaceChildren(...parts);
    if (focused) root.focus({ preventScroll: true });
    heard.textContent = !s.key ? "" : chosen ? `${s.answer.slice(chosen.start, chosen.end)}. ${chosen.span?.label ?? ""}`
      : `Answer ${s.at + 1} of ${s.total}, ${VERDICTS[s.verdict]}. ${s.changes.length ? s.text : s.answer}`;
  }

  // To the next of these places or the one before; at the last one Tab goes on as everywhere.
  function step(by, places) {
    const next = by > 0 ? places.find((place) => place.start >= (chosen?.end ?? 0))
                        : places.findLast((place) => place.end <= (chosen?.start ?? Infinity));
    if (next) choose(next.start, next.end, next.label ? next : null);
    return Boolean(next);
  }

  function extend(places) {
    const next = chosen && places.find((place) => place.start >= chosen.end);
    if (next) choose(chosen.start, next.end);
  }

  function pressed(event) {
    const s = state();
    if (event.target.tagName === "INPUT") {
      if (event.key === "Escape") leave();
      event.stopPropagation();
      return;
    }
    if (event.altKey || ((event.ctrlKey || event.metaKey) && event.key !== "z")) return;
    const pick = chosen?.span?.choices[Number(event.key) - 1];
    const all = s.key ? [...s.spans, ...words(s)].sort((a, b) => a.start - b.start) : [];
    const keys = {
      c: () => act("mark", { value: "right" }), u: () => act("mark", { value: "unsure" }), z: () => act("undo"),
      n: () => act("go", { to: s.at + 1 }), p: () => act("go", { to: s.at - 1 }), f: () => act("next open"),
      ArrowRight: () => act("go", { to: s.at + 1 }), ArrowLeft: () => act("go", { to: s.at - 1 }),
      o: toggle, r: () => act("reference"), "?": () => { view.keys = !view.keys; draw(); },
      Escape: leave, Tab: () => event.target === root && step(event.shiftKey ? -1 : 1, s.spans ?? []),
      w: () => step(1, all), W: () => step(-1, all), e: () => extend(all),
      Enter: () => { const field = chosen && root.querySelector("input.new"); field?.focus(); field?.select();
                     return Boolean(field); },
      Delete: () => { if (chosen) send([{ start: chosen.start, end: chosen.end, new: "" }]); },
    };
    const run = pick && s.key ? () => send(pick.changes) : keys[event.key];
    if (!run || (event.key === "Enter" && event.target !== root)) return;
    if (run() !== false) event.preventDefault();
    event.stopPropagation();
  }

  function pictures() {
    urls.forEach((url) => URL.revokeObjectURL(url));
    urls = model.get("pictures").map((bytes) => URL.createObjectURL(new Blob([bytes], { type: "image/png" })));
  }

  function received(message) {
    if (message.export === undefined) return;
    const url = URL.createObjectURL(new Blob([message.export], { type: "application/jsonl" }));
    make("a", { href: url, download: "annotations.jsonl" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  const redraw = () => { pictures(); draw(); };
  root.addEventListener("keydown", pressed);
  model.on("change:pictures", redraw);
  model.on("change:state", draw);
  model.on("msg:custom", received);
  redraw();
  return () => {
    model.off("change:pictures", redraw);
    model.off("change:state", draw);
    model.off("msg:custom", received);
    urls.forEach((url) => URL.revokeObjectURL(url));
  };
}

export default { render };
