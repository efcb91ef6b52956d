// Scores over time: a row for each label, whose filled height is the score.
// The likeliest label of each moment has the accent colour; the others are grey.

const ROW = 26; // pixels, as all below
const FILLED = 20; // of a row, at a score of 1
const AXIS = 22;
const NAME = 84;
const NUMBER = 44; // column of a score

export class Chart {
  /**
   * @param spanS seconds shown; null: all
   * @param mean {scores, label} that stand beside the rows; by default those of the latest moment
   */
  constructor(canvas, labels, spanS = null, mean = null) {
    this.canvas = canvas;
    this.labels = labels;
    this.spanS = spanS;
    this.mean = mean;
    this.columns = []; // {startS, endS, scores, label}
    canvas.style.height = `${labels.length * ROW + AXIS}px`;
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(canvas);
    this.media = matchMedia("(prefers-color-scheme: dark)");
    this.redraw = () => this.draw();
    this.media.addEventListener("change", this.redraw);
  }

  close() {
    this.observer.disconnect();
    this.media.removeEventListener("change", this.redraw);
  }

  /** Add the scores of a moment. */
  add(startS, endS, scores, label) {
    this.columns.push({ startS, endS, scores, label });
    while (this.spanS !== null && this.columns[0].endS < endS - this.spanS) this.columns.shift();
    this.draw();
  }

  draw() {
    const { canvas, labels } = this;
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (!width || !height) return; // hidden
    const scale = devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name);
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    context.font = `13px ${style.fontFamily}`;
    context.textBaseline = "middle";

    const latest = this.columns.at(-1);
    const endS = Math.max(latest?.endS ?? 0, this.spanS ?? 1);
    const startS = this.spanS === null ? 0 : endS - this.spanS;
    const right = width - NUMBER;
    const x = (s) => NAME + ((s - startS) / (endS - startS)) * (right - NAME);

    labels.forEach((label, index) => {
      const base = index * ROW + ROW - 3;
      const told = this.mean ?? latest;
      const isTop = told?.label === label;
      context.fillStyle = colour("--ink");
      context.font = `${isTop ? "700 " : ""}13px ${style.fontFamily}`;
      context.textAlign = "left";
      context.fillText(label, 0, base - FILLED / 2);
      context.textAlign = "right";
      const score = told?.scores?.[label];
      context.fillText(score === undefined ? "–" : `${Math.round(100 * score)}%`, width, base - FILLED / 2);
      context.fillStyle = colour("--line");
      context.fillRect(NAME, base, right - NAME, 1);
      for (const column of this.columns) {
        const left = Math.max(NAME, x(column.startS));
        const wide = x(column.endS) - left;
        if (!column.scores || wide <= 0) continue;
        context.fillStyle = colour(column.label === label ? "--accent" : "--area");
        const filled = column.scores[label] * FILLED;
        context.fillRect(left, base - filled, wide + 0.5, filled);
      }
    });
    this.#axis(context, style, colour, { startS, endS, right, x, y: labels.length * ROW + AXIS / 2 });
  }

  #axis(context, style, colour, { startS, endS, right, x, y }) {
    const steps = [0.5, 1, 2, 5, 10, 30, 60, 300, 600];
    const least = (70 * (endS - startS)) / (right - NAME); // seconds between two numbers
    const step = steps.find((s) => s >= least) ?? 1800;
    context.fillStyle = colour("--quiet");
    context.font = `12px ${style.fontFamily}`;
    context.textAlign = "center";
    for (let s = Math.ceil(startS / step) * step; s <= endS; s += step) {
      if (s < 0) continue;
      // The last number would stand in the column of scores.
      if (x(s) > right - 12 || x(s) < NAME) continue;
      context.fillText(clock(s), x(s), y);
    }
  }
}

function clock(s) {
  if (s < 60) return `${Number(s.toFixed(1))} s`;
  return `${Math.floor(s / 60)}:${String(Math.round(s % 60)).padStart(2, "0")}`;
}
