// A live session over a WebSocket, begun again when the connection is lost.

const IMAGE = 1;
const PCM_F32 = 3;
const HEADER = 16; // bytes: the kind, zeros, the position as a float64
const MAX_BUFFERED = 1_000_000; // bytes that may wait in the browser before frames are left out
const FIRST_DELAY_MS = 500;
const MAX_DELAY_MS = 8000;
const INVALID = 1008; // close code: trying again would not help

export class Stream {
  /**
   * @param path of the WebSocket
   * @param start fields of the start message; null: what is watched needs none
   * @param on handlers: message(object), picture(blob), state(text, connected), failed(text)
   */
  constructor(path, start, on) {
    Object.assign(this, { path, start, on, skipped: 0, delayMs: FIRST_DELAY_MS, closed: false });
    this.#connect();
  }

  get ready() { return this.socket.readyState === WebSocket.OPEN && this.samples !== undefined; }

  sendAudio(block) {
    if (!this.ready) return;
    this.#send(PCM_F32, this.samples, new Uint8Array(block.buffer));
    this.samples += block.length;
    this.heardMs = performance.now();
  }

  /** Send a frame, on the clock of the audio: two clocks would drift apart. */
  async sendFrame(blob, takenMs) {
    if (!this.ready) return;
    if (this.socket.bufferedAmount > MAX_BUFFERED) {
      this.skipped += 1;
      return;
    }
    const socket = this.socket;
    const bytes = new Uint8Array(await blob.arrayBuffer());
    if (this.start.audio && this.heardMs === undefined) return; // its clock has not begun
    const timeS = this.start.audio
      ? this.samples / 16000 + (takenMs - this.heardMs) / 1000
      : (takenMs - this.startedMs) / 1000;
    if (!this.ready || socket !== this.socket || timeS <= this.latestS) return;
    this.latestS = timeS;
    this.#send(IMAGE, Math.max(0, timeS), bytes);
  }

  tell(message) {
    if (this.ready) this.socket.send(JSON.stringify(message));
  }

  /** End the session: the last readings still come. */
  end() {
    this.closed = true;
    clearTimeout(this.timer);
    if (this.ready) this.tell({ type: "end" });
    else this.socket.close();
  }

  #connect() {
    this.samples = undefined;
    this.heardMs = undefined;
    const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}${this.path}`);
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      if (this.start) socket.send(JSON.stringify({ type: "start", ...this.start }));
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") this.#take(JSON.parse(data));
      else this.on.picture(new Blob([data.slice(HEADER)], { type: "image/jpeg" }));
    };
    socket.onclose = ({ code, reason }) => this.#lost(code, reason);
  }

  #take(message) {
    if (message.type === "ready") {
      this.samples = 0;
      this.latestS = -1;
      this.startedMs = performance.now();
      this.delayMs = FIRST_DELAY_MS;
      this.on.state("Connected.", true);
    }
    this.on.message(message);
  }

  async #lost(code, reason) {
    if (this.closed) {
      this.on.state("Stopped.", false);
      return;
    }
    if (code === INVALID) {
      this.on.failed(`The server ended the session: ${reason}`);
      return;
    }
    const delayMs = this.delayMs;
    this.delayMs = Math.min(2 * delayMs, MAX_DELAY_MS);
    this.on.state("Connection lost; trying again …", false);
    const taken = await placesTaken();
    if (this.closed) return;
    if (taken) this.on.state(`${taken} Trying again …`, false);
    this.timer = setTimeout(() => this.#connect(), delayMs);
  }

  #send(kind, position, payload) {
    const message = new Uint8Array(HEADER + payload.length);
    message[0] = kind;
    new DataView(message.buffer).setFloat64(8, position, true);
    message.set(payload, HEADER);
    this.socket.send(message);
  }
}

/** A handshake that failed has no reason in a browser: ask whether the server is full. */
async function placesTaken() {
  try {
    const { sessions } = await (await fetch("/v1/info")).json();
    return sessions.active >= sessions.limit ? `All ${sessions.limit} live sessions are taken.` : null;
  } catch {
    return null; // it does not answer
  }
}
