// Set-up of the page.

import { ClipPanel } from "./clip.js";
import { LivePanel } from "./live.js";
import { alertLine, element } from "./view.js";


async function main() {
  const answer = await fetch("/v1/info");
  const info = await answer.json();
  if (!answer.ok) throw new Error(info.error);
  element("model").textContent = `${info.bundle.name} model, ${info.bundle.precision}, on ${info.device}`;
  if (info.warnings.length) alertLine(info.warnings.join(" · "));
  const live = new LivePanel(info);
  new ClipPanel(info);
  info.sources.forEach(addSource);
  for (const radio of document.querySelectorAll("input[name=source]")) {
    radio.addEventListener("change", () => {
      alertLine(null);
      const own = radio.value === "camera" || radio.value === "clip";
      live.choose(own ? null : Number(radio.value));
      element("live").hidden = radio.value === "clip";
      element("clip").hidden = radio.value !== "clip";
    });
  }
  document.documentElement.dataset.ready = "true"; // for tests
}

/** A choice for something that the server reads itself. */
function addSource(name, number) {
  const label = document.createElement("label");
  const radio = Object.assign(document.createElement("input"), { type: "radio", name: "source", value: number });
  const text = document.createElement("span");
  text.textContent = name;
  label.append(radio, " ", text);
  element("sources").append(label);
}

main().catch((error) => alertLine(`The page could not start: ${error.message}`));
