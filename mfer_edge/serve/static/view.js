// Small views: scores as bars, readings as a table, downloads, lines of text.

export const element = (id) => document.getElementById(id);

export const percent = (score) => `${Math.round(100 * score)}%`;

const MODALITIES = { visual: "face", audio: "voice" };

export function basisOf(reading) {
  const names = reading.modalities.map((name) => MODALITIES[name]);
  return names.length ? `from ${names.join(" and ")}` : "no face and no speech";
}

export function alertLine(text) {
  const line = element("alert");
  line.textContent = text ?? "";
  line.hidden = !text;
}

function make(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** A bar for each label; `set` changes them in place, so that nothing flickers. */
export class ScoreBars {
  constructor(parent, labels, caption) {
    const table = make("table", undefined, { class: "scores" });
    table.append(make("caption", caption, { class: "hidden" }));
    this.rows = new Map();
    for (const label of labels) {
      const row = table.insertRow();
      row.append(make("th", label, { scope: "row" }));
      const bar = make("div", undefined, { class: "bar" });
      const fill = make("div");
      bar.append(fill);
      row.insertCell().append(bar);
      const number = row.insertCell();
      number.textContent = "–";
      this.rows.set(label, { row, fill, number });
    }
    parent.replaceChildren(table);
  }

  set(scores, top) {
    for (const [label, { row, fill, number }] of this.rows) {
      const score = scores?.[label];
      row.classList.toggle("top", label === top);
      fill.style.width = score === undefined ? "0" : `${100 * score}%`;
      number.textContent = score === undefined ? "–" : percent(score);
    }
  }
}

/** Readings as a table, the latest first or in order. */
export class ReadingTable {
  constructor(table, labels, { newestFirst = false, most = Infinity } = {}) {
    this.labels = labels;
    this.newestFirst = newestFirst;
    this.most = most;
    const head = table.createTHead();
    head.replaceChildren();
    const row = head.insertRow();
    for (const name of ["Seconds", "Label", "From", "Face", ...labels]) {
      row.append(make("th", name, { scope: "col" }));
    }
    for (const body of [...table.tBodies]) body.remove();
    this.body = table.createTBody();
  }

  add(reading) {
    const row = this.body.insertRow(this.newestFirst ? 0 : -1);
    const cells = [
      `${reading.start_s.toFixed(1)} to ${reading.end_s.toFixed(1)}`,
      reading.label ?? "none",
      basisOf(reading).replace("from ", ""),
      reading.track === null ? "–" : String(reading.track),
      ...this.labels.map((label) => (reading.scores ? percent(reading.scores[label]) : "–")),
    ];
    for (const text of cells) row.insertCell().textContent = text;
    while (this.body.rows.length > this.most) this.body.deleteRow(-1);
  }
}

/** Links that save a result; the browser makes the files, nothing is asked of the server. */
export function offerFiles(parent, analysis, files, stem) {
  for (const link of parent.querySelectorAll("a")) URL.revokeObjectURL(link.href);
  const links = [["json", new Blob([JSON.stringify(analysis, null, 2)], { type: "application/json" })]];
  if (files.csv) links.push(["csv", new Blob([files.csv], { type: "text/csv" })]);
  if (files.vtt) links.push(["vtt", new Blob([files.vtt], { type: "text/vtt" })]);
  if (files.html) links.push(["html", new Blob([files.html], { type: "text/html" })]);
  if (files.png) {
    const bytes = Uint8Array.from(atob(files.png), (letter) => letter.charCodeAt(0));
    links.push(["png", new Blob([bytes], { type: "image/png" })]);
  }
  const names = { json: "JSON", csv: "CSV", vtt: "captions (WebVTT)", html: "report", png: "timeline (PNG)" };
  parent.replaceChildren(
    ...links.map(([kind, blob]) =>
      make("a", `Save ${names[kind]}`, { href: URL.createObjectURL(blob), download: `${stem}.${kind}` })),
  );
}

export function setList(list, texts) {
  list.replaceChildren(...texts.map((text) => make("li", text)));
  list.hidden = texts.length === 0;
}
