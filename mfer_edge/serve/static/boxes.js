// Boxes around faces, drawn over the picture. Positions are pixels of the frames that were sent.

export class Boxes {
  /** @param size () => {width, height} of the frames that are read */
  constructor(canvas, size) {
    this.canvas = canvas;
    this.size = size;
    this.labels = new Map(); // by track
  }

  /** Remember what a face was read as. */
  setLabel(track, label) {
    this.labels.set(track, label);
  }

  clear() {
    this.labels.clear();
    this.canvas.width = 0;
  }

  /** @param faces as in the message `faces` */
  draw(faces, mainTrack) {
    const { canvas } = this;
    const { width, height } = this.size();
    const scale = devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * scale);
    canvas.height = Math.round(canvas.clientHeight * scale);
    if (!width) return;
    const zoom = Math.min(canvas.width / width, canvas.height / height);
    const left = (canvas.width - width * zoom) / 2;
    const top = (canvas.height - height * zoom) / 2;
    const context = canvas.getContext("2d");
    for (const face of faces) {
      const x = left + face.left * zoom;
      const y = top + face.top * zoom;
      const main = face.track === mainTrack;
      // A light line with a dark edge is seen on any picture.
      for (const [width, colour] of [[main ? 7 : 5, "#000"], [main ? 3 : 1.5, "#fff"]]) {
        context.lineWidth = width * scale;
        context.strokeStyle = colour;
        context.strokeRect(x, y, (face.right - face.left) * zoom, (face.bottom - face.top) * zoom);
      }
      this.#name(context, this.labels.get(face.track), x, y, scale);
    }
  }

  #name(context, label, x, y, scale) {
    if (!label) return;
    context.font = `600 ${14 * scale}px system-ui, sans-serif`;
    const width = context.measureText(label).width + 10 * scale;
    const height = 20 * scale;
    const above = Math.max(0, y - height - 3 * scale);
    const left = Math.max(0, Math.min(x, this.canvas.width - width));
    context.fillStyle = "#000";
    context.fillRect(left, above, width, height);
    context.fillStyle = "#fff";
    context.textBaseline = "middle";
    context.fillText(label, left + 5 * scale, above + height / 2 + scale);
  }
}
