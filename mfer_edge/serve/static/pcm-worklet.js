// Audio worklet: the microphone as 16 kHz mono blocks of 0.1 s.
// Where the audio context runs at another rate, a windowed sinc filter resamples.

const RATE = 16000;
const BLOCK = 1600;
const LOBES = 12; // of the sinc on either side

class Resampler {
  constructor(rate) {
    this.step = rate / RATE; // input samples for each output sample
    this.cutoff = Math.min(1, RATE / rate) * 0.95;
    this.reach = Math.ceil(LOBES / this.cutoff);
    this.input = new Float32Array(this.reach); // silence before the start
    this.position = this.reach; // of the next output sample, in `input`
  }

  push(samples) {
    const joined = new Float32Array(this.input.length + samples.length);
    joined.set(this.input);
    joined.set(samples, this.input.length);
    const output = [];
    while (this.position + this.reach < joined.length) {
      output.push(this.#at(joined, this.position));
      this.position += this.step;
    }
    const done = Math.max(0, Math.floor(this.position) - this.reach);
    this.input = joined.slice(done);
    this.position -= done;
    return output;
  }

  #at(samples, position) {
    const first = Math.ceil(position - this.reach);
    const last = Math.floor(position + this.reach);
    let sum = 0;
    for (let index = first; index <= last; index++) {
      const distance = index - position;
      const angle = Math.PI * distance * this.cutoff;
      const sinc = angle === 0 ? 1 : Math.sin(angle) / angle;
      const window = 0.5 + 0.5 * Math.cos((Math.PI * distance) / (this.reach + 1));
      sum += samples[index] * sinc * window;
    }
    return sum * this.cutoff;
  }
}

class PcmWorklet extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = sampleRate === RATE ? null : new Resampler(sampleRate);
    this.block = new Float32Array(BLOCK);
    this.filled = 0;
  }

  process([channels]) {
    if (!channels?.length) return true; // the microphone has not begun
    const mono = new Float32Array(channels[0].length);
    for (const channel of channels) {
      for (let index = 0; index < mono.length; index++) mono[index] += channel[index] / channels.length;
    }
    for (const sample of this.resampler ? this.resampler.push(mono) : mono) {
      this.block[this.filled++] = sample;
      if (this.filled === BLOCK) {
        this.port.postMessage(this.block, [this.block.buffer]);
        this.block = new Float32Array(BLOCK);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("pcm", PcmWorklet);
