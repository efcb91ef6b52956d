// The visitor's camera and microphone: JPEG frames and blocks of 16 kHz audio.

const MAX_SIDE = 640; // pixels of a frame that is sent
const QUALITY = 0.9;
const VIDEO = { width: { ideal: 1280 }, height: { ideal: 720 } };
// A call's processing would change the voice that is to be read.
const AUDIO = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };

export class CaptureError extends Error {}

export class Capture {
  /**
   * @param video the element that shows the picture
   * @param onFrame (blob) called `rate` times a second
   * @param onAudio (Float32Array) called for each 0.1 s
   */
  constructor(video, { rate, onFrame, onAudio }) {
    Object.assign(this, { video, rate, onFrame, onAudio });
  }

  /** Size of the frames that are sent. */
  get size() {
    return { width: this.canvas?.width ?? 0, height: this.canvas?.height ?? 0 };
  }

  get hasVideo() { return this.media.getVideoTracks().length > 0; }
  get hasAudio() { return this.media.getAudioTracks().length > 0; }

  /** Ask for the devices. @param onLost called when one is unplugged or taken away */
  async open(onLost) {
    this.media = await askFor();
    for (const track of this.media.getTracks()) track.addEventListener("ended", onLost);
    if (this.hasVideo) {
      this.video.srcObject = this.media;
      await this.video.play();
    }
    if (this.hasAudio) await this.#listen();
    if (this.hasVideo) {
      this.canvas = document.createElement("canvas");
      this.timer = setInterval(() => this.#film(), 1000 / this.rate);
    }
  }

  close() {
    clearInterval(this.timer);
    this.context?.close();
    for (const track of this.media?.getTracks() ?? []) track.stop();
    this.video.srcObject = null;
  }

  async #listen() {
    try {
      await this.#connect(new AudioContext({ sampleRate: 16000 }));
    } catch (error) {
      // Firefox does not connect a microphone of another rate: the worklet resamples.
      if (error.name !== "NotSupportedError") throw error;
      await this.#connect(new AudioContext());
    }
  }

  async #connect(context) {
    this.context?.close();
    this.context = context;
    await context.audioWorklet.addModule("/static/pcm-worklet.js");
    const worklet = new AudioWorkletNode(context, "pcm", { numberOfOutputs: 0 });
    worklet.port.onmessage = ({ data }) => this.onAudio(data);
    context.createMediaStreamSource(this.media).connect(worklet);
    await context.resume();
  }

  #film() {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (!width || this.busy) return;
    const scale = Math.min(1, MAX_SIDE / Math.max(width, height));
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    this.canvas.getContext("2d").drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
    const takenMs = performance.now();
    this.busy = true; // encoding
    this.canvas.toBlob((blob) => {
      this.busy = false;
      if (blob) this.onFrame(blob, takenMs);
    }, "image/jpeg", QUALITY);
  }
}

/** Pictures that the server sends, of a source of its own. */
export class Picture {
  hasVideo = true;

  constructor(canvas) {
    this.canvas = canvas;
    canvas.hidden = false;
  }

  get size() {
    return { width: this.canvas.width, height: this.canvas.height };
  }

  async show(blob) {
    const image = await createImageBitmap(blob);
    this.canvas.width = image.width;
    this.canvas.height = image.height;
    this.canvas.getContext("2d").drawImage(image, 0, 0);
    image.close();
  }

  close() {
    this.canvas.width = 0; // empty
    this.canvas.hidden = true;
  }
}

/** Camera and microphone, or the one that is there. */
async function askFor() {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new CaptureError(
      "Browsers give the camera to pages of this machine and to https only: start the server with --tls-cert.",
    );
  }
  let failure;
  for (const wanted of [{ video: VIDEO, audio: AUDIO }, { video: VIDEO }, { audio: AUDIO }]) {
    try {
      return await navigator.mediaDevices.getUserMedia(wanted);
    } catch (error) {
      failure ??= error;
      if (error.name === "NotAllowedError") break; // asked and refused: don't ask again
    }
  }
  const reasons = {
    NotAllowedError: "The browser does not let this page use the camera: allow it in the address bar.",
    NotFoundError: "There is no camera and no microphone.",
    NotReadableError: "The camera is in use by another program.",
  };
  throw new CaptureError(reasons[failure.name] ?? `The camera could not be opened: ${failure.message}`);
}
