
"use strict";
// The report: lanes drawn from the data in the page, and a time that the keyboard can move.
(() => {
  const find = (id) => document.getElementById(id);
  const data = JSON.parse(find("data").textContent);
  const { duration, labels, spans, people, pictures } = data;
  const video = find("video"), still = find("still"), lanes = find("lanes"), seekBar = find("seek");
  const length = duration || 1;
  // Pixels of a lane: browsers have no wider canvas, and little memory for many.
  const MAX_WIDTH = Math.max(3000, Math.min(15000, 60000 / Math.max(1, people.length)));
  const HEIGHTS = { scores: 96, likeliest: 24, uncertainty: 28, view: 18, speech: 28, axis: 22 };
  const BASES = ["nothing", "face", "voice", "face and voice"];
  const STEP_S = length > 600 ? 5 : 1, FAR = 10;

  // Okabe and Ito's colours, which people who are colour-blind can tell apart; text on them is
  // dark where that has the better contrast.
  const HUES = [
    ["neutr", "#9a9a9a"], ["calm", "#56b4e9"], ["happ", "#e69f00"], ["sad", "#0072b2"],
    ["ang", "#d55e00"], ["fear", "#cc79a7"], ["disg", "#009e73"], ["surpr", "#f0e442"],
  ];
  const SPARE = ["#7b5ea7", "#8c6d31", "#4d4d4d", "#a6cee3"];
  let spare = 0;
  const colours = labels.map((label) => {
    const known = HUES.find(([start]) => label.toLowerCase().startsWith(start));
    return known ? known[1] : SPARE[spare++ % SPARE.length];
  });
  const luminance = (hex) => [1, 3, 5]
    .map((at) => parseInt(hex.slice(at, at + 2), 16) / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const inkOn = (hex) => (luminance(hex) > 0.18 ? "#000000" : "#ffffff");

  const clock = (time) => {
    const tenths = Math.round(time * 10), two = (value) => String(value).padStart(2, "0");
    const hours = Math.floor(tenths / 36000), minutes = Math.floor(tenths / 600) % 60;
    const seconds = two(Math.floor((tenths % 600) / 10));
    return hours ? `${hours}:${two(minutes)}:${seconds}` : `${minutes}:${seconds}.${tenths % 10}`;
  };
  const percent = (thousandths) => `${Math.round(thousandths / 10)}%`;

  const points = (person) => person.points.map(([span, view, basis, ...scores]) => {
    const [from, to] = spans[span];
    const best = scores.length ? scores.indexOf(Math.max(...scores)) : -1;
    const shares = scores.map((score) => score / 1000).filter((score) => score > 0);
    const entropy = -shares.reduce((sum, share) => sum + share * Math.log(share), 0);
    const doubt = best < 0 || scores.length < 2 ? null
      : Math.min(1, entropy / Math.log(scores.length));
    return { from: from / 100, to: to / 100, view: view / 1000, basis, scores, best, doubt };
  });
  const everyone = people.map((person) => ({ ...person, points: points(person) }));

  let time = 0, zoom = 1, alone = -1, playable = false;
  const drawers = [];

  function element(name, fields = {}, parent = null) {
    const made = Object.assign(document.createElement(name), fields);
    if (parent) parent.append(made);
    return made;
  }

  function lane(name, height, description, draw) {
    if (name) element("div", {}, lanes).append(element("span", { className: "name", textContent: name }));
    const canvas = element("canvas", {}, lanes);
    canvas.style.height = `${height}px`;
    if (description) {
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", description);
    } else {
      canvas.setAttribute("aria-hidden", "true");
      canvas.className = "axis";
    }
    drawers.push(() => {
      const width = lanes.clientWidth, ratio = Math.min(devicePixelRatio || 1, MAX_WIDTH / width);
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * (devicePixelRatio || 1));
      const context = canvas.getContext("2d");
      context.scale(canvas.width / width, canvas.height / height);
      const style = getComputedStyle(document.documentElement);
      const paint = (variable) => style.getPropertyValue(variable).trim();
      context.font = "12px system-ui, sans-serif";
      context.textBaseline = "middle";
      const x = (at) => Math.round((at / length) * width * ratio) / ratio; // whole device pixels
      context.fillStyle = paint("--raised");
      if (name || description) context.fillRect(0, 0, width, height);
      draw({ context, width, height, x, paint });
    });
  }

  function bars({ context, height, x, paint }, parts, value) {
    context.fillStyle = paint("--area");
    for (const part of parts) {
      const share = value(part);
      if (share !== null) {
        const left = x(part.from);
        context.fillRect(left, height * (1 - share), x(part.to) - left, height * share);
      }
    }
  }

  function scores({ context, height, x }, person) {
    for (const point of person.points) {
      let base = height;
      const left = x(point.from), wide = x(point.to) - left;
      point.scores.forEach((score, index) => {
        if (alone >= 0 && alone !== index) return;
        const high = (score / 1000) * height;
        context.fillStyle = colours[index];
        context.fillRect(left, base - high, wide, high);
        base -= high;
      });
    }
  }

  function likeliest({ context, height, x }, person) {
    const runs = [];
    for (const { from, to, best } of person.points) {
      const last = runs[runs.length - 1];
      if (last && last.best === best && from - last.to < 0.02) last.to = to;
      else if (best >= 0) runs.push({ from, to, best });
    }
    for (const { from, to, best } of runs) {
      const left = x(from), wide = x(to) - left;
      context.fillStyle = colours[best];
      context.fillRect(left, 0, Math.max(1, wide - 1), height);
      if (context.measureText(labels[best]).width + 10 < wide) {
        context.fillStyle = inkOn(colours[best]);
        context.fillText(labels[best], left + 5, height / 2 + 1);
      }
    }
  }

  function view({ context, width, height, x, paint }, person) {
    bars({ context, height, x, paint }, person.points, (point) => point.view);
    context.fillStyle = paint("--ink");
    context.fillRect(x(person.from / 100), height - 2, x((person.to - person.from) / 100), 2);
  }

  function axis({ context, width, height, x, paint }) {
    const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
    const step = steps.find((one) => (one / length) * width >= 70) || 14400;
    context.font = "12px system-ui, sans-serif";
    for (let index = 0; index * step <= length + 1e-6; index += 1) {
      const at = x(index * step), text = clock(index * step);
      const wide = context.measureText(text).width;
      context.fillStyle = paint("--edge");
      context.fillRect(Math.min(at, width - 1), 0, 1, 5);
      context.fillStyle = paint("--quiet");
      const left = Math.max(0, Math.min(at - wide / 2, width - wide));
      context.fillText(text, left, height / 2 + 3);
    }
  }

  function drawPictures(strip) {
    const height = strip.clientHeight, width = lanes.clientWidth;
    strip.replaceChildren();
    const shape = still.naturalWidth ? still.naturalWidth / still.naturalHeight : 16 / 9;
    const slots = Math.max(1, Math.min(pictures.length, Math.floor(width / (height * shape))));
    for (let slot = 0; slot < slots; slot += 1) {
      const image = element("img", { alt: "", src: pictureAt(((slot + 0.5) / slots) * length) }, strip);
      image.style.left = `${(slot / slots) * 100}%`;
      image.style.width = `${100 / slots}%`;
      image.draggable = false;
      if (slots > 1 && (width / slots) > height * shape * 1.6) image.style.objectFit = "contain";
    }
  }

  function pictureAt(at) {
    let best = pictures[0];
    for (const one of pictures) {
      if (Math.abs(one[0] / 100 - at) < Math.abs(best[0] / 100 - at)) best = one;
    }
    return `data:image/jpeg;base64,${best[1]}`;
  }

  function build() {
    if (pictures.length) {
      element("div", {}, lanes).append(element("span", { className: "name", textContent: "pictures" }));
      const strip = element("div", { className: "pictures", ariaHidden: "true" }, lanes);
      drawers.push(() => drawPictures(strip));
    }
    lane("", HEIGHTS.axis, "", axis);
    for (const person of everyone) {
      const of = everyone.length > 1 ? `${person.name}: ` : "";
      lane(`${of}scores`, HEIGHTS.scores, `Scores over time, ${person.name}`, (at) => scores(at, person));
      lane(`${of}likeliest`, HEIGHTS.likeliest, `Likeliest label over time, ${person.name}`,
        (at) => likeliest(at, person));
      lane(`${of}uncertainty`, HEIGHTS.uncertainty, `Uncertainty over time, ${person.name}`,
        (at) => bars(at, person.points, (point) => point.doubt));
      if (person.points.some((point) => point.view)) {
        lane(`${of}in view`, HEIGHTS.view, `When ${person.name} was in view`, (at) => view(at, person));
      }
    }
    const said = spans.map(([from, to, share]) => ({ from: from / 100, to: to / 100, share: share / 1000 }));
    lane("speech", HEIGHTS.speech, "Speech over time", (at) => bars(at, said, (one) => one.share));
    lane("", HEIGHTS.axis, "", axis);
    labels.forEach((label, index) => {
      const button = element("button", { type: "button", ariaPressed: "false" }, find("legend"));
      element("span", { className: "swatch" }, button).style.background = colours[index];
      button.append(label);
      button.addEventListener("click", () => {
        alone = alone === index ? -1 : index;
        [...find("legend").children].forEach((one, at) => { one.ariaPressed = String(at === alone); });
        draw();
      });
    });
  }

  function draw() {
    const room = find("scroll").clientWidth;
    const width = Math.min(Math.max(MAX_WIDTH, room), Math.round(room * zoom));
    lanes.style.width = zoom > 1 ? `${width}px` : "";
    for (const one of drawers) one();
    show();
  }

  function at(person) {
    return person.points.find((point) => point.from <= time && time < point.to)
      || (time >= length - 0.05 ? person.points[person.points.length - 1] : undefined);
  }

  function saying(person) {
    const point = at(person);
    if (!point) return null;
    const name = everyone.length > 1 ? `${person.name}: ` : "";
    if (point.best < 0) return { text: `${name}no reading`, best: -1 };
    const text = `${name}${labels[point.best]} ${percent(point.scores[point.best])}, from `
      + `${BASES[point.basis & 3]}, uncertainty ${percent(point.doubt * 1000)}`
      + (point.basis & 4 ? ", speaks" : "");
    return { text, best: point.best };
  }

  function show() {
    find("clock").textContent = `${clock(time)} of ${clock(duration)}`;
    find("cursor").style.left = `${(time / length) * 100}%`;
    const said = everyone.map(saying).filter(Boolean);
    const list = find("now");
    list.replaceChildren();
    for (const { text, best } of said) {
      const row = element("li", {}, list);
      if (best >= 0) element("span", { className: "swatch" }, row).style.background = colours[best];
      element("span", { textContent: text }, row);
    }
    if (!said.length) element("li", { textContent: "no reading" }, list);
    seekBar.value = time;
    seekBar.setAttribute("aria-valuetext", `${clock(time)}. ${said.map((one) => one.text).join("; ") || "no reading"}`);
    if (!still.hidden) still.src = pictureAt(time);
  }

  function follow() {
    const box = find("scroll"), x = (time / length) * lanes.clientWidth;
    if (x < box.scrollLeft || x > box.scrollLeft + box.clientWidth) box.scrollLeft = x - box.clientWidth / 2;
  }

  function seek(to) {
    time = Math.min(duration, Math.max(0, to));
    if (playable) video.currentTime = time;
    show();
    follow();
  }

  function toggle() {
    if (!playable) return;
    if (video.paused) video.play().catch(() => lost()); else video.pause();
  }

  function zoomTo(factor) {
    zoom = Math.min(64, Math.max(1, factor));
    draw();
    follow();
  }

  function lost() {
    playable = false;
    find("play").disabled = true;
    find("missing").hidden = false;
    if (video.hasAttribute("src")) {
      find("why").textContent = "The clip is not beside this report, or this browser can't play it.";
    }
    video.hidden = true;
    still.hidden = !pictures.length;
    show();
  }

  function watch(player) {
    player.addEventListener("error", lost);
    player.addEventListener("loadedmetadata", () => {
      playable = true;
      find("play").disabled = false;
      player.hidden = false;
      still.hidden = true;
      find("missing").hidden = true;
      if (time) player.currentTime = time;
      document.documentElement.dataset.clip = "loaded";
    });
    const moved = () => { time = player.currentTime; show(); follow(); };
    for (const name of ["timeupdate", "seeked"]) player.addEventListener(name, moved);
    for (const name of ["play", "pause", "ended"]) {
      player.addEventListener(name, () => { find("play").textContent = player.paused ? "Play" : "Pause"; });
    }
    if (player.error || !player.hasAttribute("src")) lost();
    else if (player.readyState > 0) player.dispatchEvent(new Event("loadedmetadata"));
  }

  const MOVES = {
    ArrowLeft: (step) => seek(time - step), ArrowRight: (step) => seek(time + step),
    Home: () => seek(0), End: () => seek(duration),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const on = event.target, name = on.tagName;
    const acts = ["BUTTON", "SUMMARY"].includes(name) || on.type === "file";
    if (event.key === " " && !acts) {
      event.preventDefault();
      toggle();
    } else if (MOVES[event.key] && !on.closest(".scroll:not(#scroll)")) {
      event.preventDefault();
      MOVES[event.key](event.shiftKey ? STEP_S * FAR : STEP_S);
    }
  });
  seekBar.max = duration;
  seekBar.addEventListener("input", () => seek(Number(seekBar.value)));
  find("play").addEventListener("click", toggle);
  find("closer").addEventListener("click", () => zoomTo(zoom * 2));
  find("wider").addEventListener("click", () => zoomTo(zoom / 2));
  find("rows").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) seek(Number(button.dataset.s));
  });
  const point = (event) => {
    const box = lanes.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * length);
  };
  lanes.addEventListener("click", point);
  lanes.addEventListener("pointermove", (event) => { if (event.buttons === 1 && event.pointerType === "mouse") point(event); });
  find("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) video.src = URL.createObjectURL(file);
  });

  build();
  watch(video);
  if (pictures.length) {
    still.addEventListener("load", draw, { once: true });
    still.src = pictureAt(0);
  }
  new ResizeObserver(draw).observe(find("scroll"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
  document.documentElement.dataset.ready = "";
})();
