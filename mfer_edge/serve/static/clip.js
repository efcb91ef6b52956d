// The clip panel: a file is sent, its progress shown, then its result.

import { Chart } from "./chart.js";
import { alertLine, basisOf, element, offerFiles, percent, ReadingTable, ScoreBars, setList } from "./view.js";
import { analyze, UploadError } from "./upload.js";

export class ClipPanel {
  constructor(info) {
    this.info = info;
    const { max_bytes: bytes, max_clip_s: seconds } = info.uploads;
    element("limits").textContent = `At most ${Math.round(bytes / 1e6)} MB and ${Math.round(seconds / 60)} minutes. It is deleted once it is analysed.`;
    const file = element("file");
    file.addEventListener("change", () => {
      if (file.files.length) this.analyze(file.files[0]);
      file.value = ""; // so that the same file can be chosen again
    });
    this.#takeDrops(element("drop"));
    element("cancel").addEventListener("click", () => this.abort?.abort());
  }

  async analyze(file) {
    if (this.abort) {
      alertLine(`${file.name} was not taken: wait for the clip before it, or cancel it.`);
      return;
    }
    alertLine(null);
    if (file.size > this.info.uploads.max_bytes) {
      alertLine(`${file.name} has ${Math.ceil(file.size / 1e6)} MB, more than this server takes.`);
      return;
    }
    this.abort = new AbortController();
    element("result").hidden = true;
    element("upload").hidden = false;
    element("upload-name").textContent = file.name;
    const faces = element("clip-everyone").checked ? "all" : "main";
    try {
      const { analysis, files } = await analyze(file, faces, this.abort.signal, (text, fraction) => {
        element("upload-status").textContent = text;
        element("progress").value = fraction;
      });
      this.#show(analysis, files);
    } catch (error) {
      if (error.name !== "AbortError") {
        alertLine(error instanceof UploadError ? error.message : `The clip could not be sent: ${error.message}`);
      }
    } finally {
      this.abort = null;
      element("upload").hidden = true;
    }
  }

  #show(analysis, files) {
    const { labels } = this.info;
    const { overall } = analysis;
    element("result").hidden = false;
    element("result-name").textContent = `${analysis.source}, ${analysis.duration_s.toFixed(2)} s`;
    element("result-label").textContent = overall?.label ?? "–";
    element("result-basis").textContent = overall
      ? `${percent(overall.scores[overall.label])}, ${basisOf(overall)}${unreadFaces(analysis)}`
      : "no face and no speech";
    setList(element("warnings"), analysis.warnings);
    new ScoreBars(element("result-scores"), labels, "Mean scores of the clip").set(overall?.scores, overall?.label);
    this.chart?.close();
    this.chart = new Chart(element("result-chart"), labels, null, overall ?? {});
    const table = new ReadingTable(element("result-readings"), labels);
    const main = analysis.windows.filter((reading) => reading.main);
    main.forEach((reading, index) => {
      const [startS, endS] = shownSpan(main, index, analysis.duration_s);
      this.chart.add(startS, endS, reading.scores, reading.label);
    });
    for (const reading of analysis.windows) table.add(reading);
    const stem = analysis.source.replace(/\.[^.]*$/, "") || "clip";
    offerFiles(element("result-files"), analysis, files, stem);
    element("result-name").focus();
  }

  #takeDrops(zone) {
    const over = (event, on) => {
      event.preventDefault();
      zone.classList.toggle("over", on);
    };
    zone.addEventListener("dragover", (event) => over(event, true));
    zone.addEventListener("dragleave", (event) => over(event, false));
    zone.addEventListener("drop", (event) => {
      over(event, false);
      const [file] = event.dataTransfer.files;
      if (file) this.analyze(file);
    });
  }
}

/** Faces that were in view for a second or more and have no reading, as a text. */
function unreadFaces({ windows, tracks }) {
  const read = new Set(windows.map((reading) => reading.track));
  const others = tracks.filter(({ track, start_s: startS, end_s: endS }) => !read.has(track) && endS - startS >= 1).length;
  return others ? `; ${others} more in view not read: choose “Everyone in view”` : "";
}

/** Windows overlap: each is shown where it is the nearest one. */
function shownSpan(windows, index, durationS) {
  const middle = ({ start_s: startS, end_s: endS }) => (startS + endS) / 2;
  const between = (a, b) => (middle(windows[a]) + middle(windows[b])) / 2;
  return [
    index === 0 ? 0 : between(index - 1, index),
    index === windows.length - 1 ? durationS : between(index, index + 1),
  ];
}
