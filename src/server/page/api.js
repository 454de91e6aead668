"use strict";
// The server's OpenAI-shaped interface, as far as the page needs it.
const Api = (() => {
  let key = "";

  async function request(path, body, signal) {
    const headers = {};
    if (key) headers["Authorization"] = `Bearer ${key}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const response = await fetch(path, {method: body === undefined ? "GET" : "POST", headers, body: body && JSON.stringify(body), signal});
    if (response.ok) return response;
    let message = `The server answered ${response.status}.`;
    try {
      message = (await response.json()).error.message ?? message;
    } catch { /* not JSON: the status says enough */ }
    const error = new Error(message);
    error.status = response.status;
    throw error;
  }

  async function models() {
    return (await (await request("v1/models")).json()).data;
  }

  // The events of a stream, as objects, until [DONE]. An event may come in pieces, and several in one.
  async function* events(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const {value, done} = await reader.read();
      rest += value ?? "";
      const ends = rest.split(/\r?\n\r?\n/);
      rest = ends.pop();
      for (const event of ends) {
        const data = event.split(/\r?\n/).filter((l) => l.startsWith("data:")).map((l) => l.slice(5).trimStart()).join("\n");
        if (data === "[DONE]") return;
        if (!data) continue;
        const parsed = JSON.parse(data);
        if (parsed.error) throw new Error(parsed.error.message ?? "The server ended the answer with an error.");
        yield parsed;
      }
      if (done) return;
    }
  }

  // Streams a chat completion: calls onDelta for each piece and gives {finishReason, usage} at the end.
  async function chat(body, signal, onDelta) {
    const response = await request("v1/chat/completions", {...body, stream: true, stream_options: {include_usage: true}}, signal);
    const result = {finishReason: null, usage: null};
    for await (const event of events(response)) {
      if (event.usage) result.usage = event.usage;
      const choice = event.choices?.[0];
      if (!choice) continue;
      if (choice.finish_reason) result.finishReason = choice.finish_reason;
      if (choice.delta) onDelta(choice.delta);
    }
    return result;
  }

  return {models, chat, setKey: (value) => (key = value.trim())};
})();
