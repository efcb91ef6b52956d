// The live panel: camera and microphone to a session, readings to the page.

import { Boxes } from "./boxes.js";
import { Capture, CaptureError, Picture } from "./capture.js";
import { Chart } from "./chart.js";
import { Stream } from "./stream.js";
import { alertLine, basisOf, element, offerFiles, percent, ReadingTable, ScoreBars, setList } from "./view.js";

const SPAN_S = 60; // of the chart
const TABLE_ROWS = 120;
const ABSENT_S = 3; // after which a face is not in view any more

export class LivePanel {
  constructor(info) {
    this.info = info;
    this.source = null;
    this.bars = new ScoreBars(element("scores"), info.labels, "Scores of the latest reading");
    this.chart = new Chart(element("chart"), info.labels, SPAN_S);
    this.boxes = new Boxes(element("boxes"), () => this.capture?.size ?? { width: 0, height: 0 });
    this.table = new ReadingTable(element("readings"), info.labels, { newestFirst: true, most: TABLE_ROWS });
    element("start").addEventListener("click", () => (this.capture ? this.stop() : this.start()));
    element("record").addEventListener("click", () => this.#record());
  }

  /** Choose what is read. @param source a number of /v1/info's sources; null: the own camera */
  choose(source) {
    if (this.capture) this.stop();
    this.source = source;
    element("everyone-label").hidden = source !== null;
    element("placeholder").textContent = source === null
      ? "The picture of your camera appears here. It goes to this server only, and is not kept."
      : `The picture of ${this.info.sources[source]} appears here.`;
  }

  async start() {
    alertLine(null);
    if (this.source !== null) {
      const picture = new Picture(element("picture"));
      this.#begin(picture);
      this.#connect(`/v1/watch?source=${this.source}`, null);
      return;
    }
    const button = element("start");
    button.disabled = true;
    this.#status("Waiting for the camera …");
    const capture = new Capture(element("video"), {
      rate: this.info.frame_rate,
      onFrame: (blob, takenMs) => this.stream?.sendFrame(blob, takenMs),
      onAudio: (block) => this.stream?.sendAudio(block),
    });
    try {
      await capture.open(() => this.#fail("The camera or the microphone was taken away."));
    } catch (error) {
      capture.close();
      button.disabled = false;
      this.#status("Not started.");
      alertLine(error instanceof CaptureError ? error.message : `The camera could not be opened: ${error.message}`);
      return;
    }
    button.disabled = false;
    this.#begin(capture);
    const faces = element("everyone").checked ? "all" : "main";
    this.#connect("/v1/stream", { video: capture.hasVideo, audio: capture.hasAudio, faces });
  }

  stop() {
    this.#setRecording(false);
    element("record").disabled = true;
    this.stream?.end();
    this.#release();
  }

  #begin(capture) {
    this.capture = capture;
    element("placeholder").textContent = capture.hasVideo ? "" : "No camera: the voice alone is read.";
    element("start").textContent = "Stop";
    element("everyone").disabled = true;
  }

  #connect(path, start) {
    this.tracks = new Map(); // by number: {label, timeS}
    this.originS = null; // page time at which the session began
    this.stream = new Stream(path, start, {
      message: (message) => this.#take(message),
      picture: (blob) => this.capture?.show(blob),
      failed: (text) => this.#fail(text),
      state: (text, connected) => {
        this.#status(text);
        element("record").disabled = !connected;
        if (!connected) this.#setRecording(false);
        this.boxes.clear();
      },
    });
  }

  #release() {
    this.capture?.close();
    this.capture = null;
    this.boxes.clear();
    element("start").textContent = "Start";
    element("everyone").disabled = false;
    element("placeholder").textContent = "Stopped.";
  }

  #fail(text) {
    if (!this.capture) return;
    alertLine(text);
    this.stop();
  }

  #take(message) {
    if (message.type === "ready") this.originS = performance.now() / 1000;
    if (message.type === "faces") this.#faces(message);
    if (message.type === "reading") this.#reading(message);
    if (message.type === "notice") this.#status(sentence(message.text));
    if (message.type === "error") this.#fail(`The server: ${message.error}`);
    if (message.type === "recording") this.#recorded(message);
  }

  #faces({ time_s: timeS, faces }) {
    this.boxes.draw(faces, this.main);
    for (const face of faces) {
      const known = this.tracks.get(face.track) ?? {};
      this.tracks.set(face.track, { ...known, timeS });
    }
    for (const [track, { timeS: seenS }] of this.tracks) {
      if (timeS - seenS > ABSENT_S) this.tracks.delete(track);
    }
    element("inview").textContent = faces.length === 1 ? "1 face" : `${faces.length} faces`;
    const people = [...this.tracks].filter(([, { label }]) => label);
    setList(element("people"), people.map(([track, { label, score }]) => `Face ${track}: ${label} ${percent(score)}`));
  }

  #reading(reading) {
    this.table.add(reading);
    if (reading.track !== null) {
      this.boxes.setLabel(reading.track, reading.label);
      const known = this.tracks.get(reading.track) ?? { timeS: reading.end_s };
      this.tracks.set(reading.track, { ...known, label: reading.label, score: reading.scores?.[reading.label] });
    }
    if (!reading.main) return;
    this.main = reading.track;
    setText("label", reading.label ?? "–"); // unchanged text would be read out again
    setText("basis", basisOf(reading));
    this.bars.set(reading.scores, reading.label);
    const endS = this.originS + reading.end_s - (this.firstS ??= this.originS);
    this.chart.add(endS - this.info.hop_s, endS, reading.scores, reading.label);
    setText("lag", milliseconds(reading.lag_s));
    setText("compute", milliseconds(reading.compute_s));
    setText("dropped", String(reading.dropped + this.stream.skipped));
  }

  #record() {
    const on = element("record").getAttribute("aria-pressed") !== "true";
    this.stream.tell({ type: "record", on });
    this.#setRecording(on);
  }

  #setRecording(on) {
    const button = element("record");
    button.setAttribute("aria-pressed", String(on));
    button.textContent = on ? "Stop recording" : "Record";
  }

  #recorded({ analysis, files }) {
    const { overall, windows } = analysis;
    element("recording").hidden = false;
    const count = windows.length === 1 ? "1 reading" : `${windows.length} readings`;
    element("recorded").textContent = overall
      ? `${analysis.duration_s.toFixed(0)} s, ${count}; on the whole ${overall.label} (${percent(overall.scores[overall.label])}).`
      : `${analysis.duration_s.toFixed(0)} s, ${count}, without a face or speech.`;
    offerFiles(element("recording-files"), analysis, files, "recording");
  }

  #status(text) {
    setText("status", text);
  }
}

function setText(id, text) {
  const target = element(id);
  if (target.textContent !== text) target.textContent = text;
}

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}

function milliseconds(seconds) {
  return seconds < 10 ? `${Math.round(1000 * seconds)} ms` : `${seconds.toFixed(0)} s`;
}
