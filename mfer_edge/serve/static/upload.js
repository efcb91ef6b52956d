// POST /v1/analyze with progress: of the upload from the browser, of the analysis from the server.

export class UploadError extends Error {}

/**
 * Send a clip. Returns {analysis, files}.
 * @param faces whose emotion to read: "main" or "all"
 * @param onProgress (text, fraction)
 */
export function analyze(file, faces, signal, onProgress) {
  // `fetch` does not tell how much of a body was sent.
  const request = new XMLHttpRequest();
  const form = new FormData();
  form.append("faces", faces); // before the clip, which is checked as it comes
  form.append("clip", file, file.name);
  return new Promise((resolve, reject) => {
    const events = new EventReader();
    const found = {};
    const read = () => {
      for (const { name, data } of events.read(request.responseText)) {
        if (name === "progress") onProgress(data.fraction ? "Analysing …" : "Waiting for a free place …", 0.3 + 0.7 * data.fraction);
        else found[name] = data;
      }
    };
    request.open("POST", "/v1/analyze?files=1");
    request.setRequestHeader("Accept", "text/event-stream");
    request.upload.onprogress = ({ loaded, total }) => onProgress("Sending …", (0.3 * loaded) / total);
    request.onprogress = () => { if (request.status === 200) read(); };
    request.onload = () => {
      if (request.status !== 200) return reject(new UploadError(errorOf(request)));
      read();
      if (found.error) return reject(new UploadError(found.error.error));
      if (!found.result) return reject(new UploadError("The server broke off the analysis."));
      return resolve({ analysis: found.result, files: found.files ?? {} });
    };
    request.onerror = () => reject(new UploadError("The connection to the server was lost."));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

function errorOf(request) {
  try {
    return JSON.parse(request.responseText).error;
  } catch {
    return `The server answered ${request.status}.`;
  }
}

/** Server-sent events of a text that grows. */
class EventReader {
  at = 0;

  *read(text) {
    for (let end; (end = text.indexOf("\n\n", this.at)) >= 0; this.at = end + 2) {
      const event = { name: "message", data: "" };
      for (const line of text.slice(this.at, end).split("\n")) {
        if (line.startsWith("event: ")) event.name = line.slice(7);
        if (line.startsWith("data: ")) event.data += line.slice(6);
      }
      if (event.data) yield { name: event.name, data: JSON.parse(event.data) };
    }
  }
}
