"use strict";
// The conversation and what is done with it. `messages` is what the server is sent, with what is shown of each answer.
(() => {
  const $ = (id) => document.getElementById(id);
  const numbers = ["temperature", "top_p", "top_k", "min_p", "presence_penalty", "repetition_penalty", "max_tokens", "seed"];
  const texts = ["system", "tools", "key"];

  let settings = Store.read("settings", {});
  let messages = Store.read("messages", []);
  let running = null;  // AbortController of the answer that is being written
  let model = "";

  // --- settings

  function parseTools() {
    if (!settings.tools?.trim()) return undefined;
    const tools = JSON.parse(settings.tools);
    if (!Array.isArray(tools)) throw new Error("expected a list of functions in [ ]");
    return tools.length ? tools : undefined;
  }

  function showToolsError() {
    let message = "";
    try {
      parseTools();
    } catch (error) {
      message = `Tools: ${error.message}`;
    }
    $("tools-error").textContent = message;
    $("tools-error").hidden = !message;
    $("set-tools").setAttribute("aria-invalid", String(Boolean(message)));
  }

  function showSettings() {
    for (const name of [...numbers, ...texts]) $(`set-${name}`).value = settings[name] ?? "";
    $("thinking").checked = settings.thinking ?? true;
    document.documentElement.dataset.theme = settings.theme ?? "";
    $("theme").setAttribute("aria-label", `Colours: ${settings.theme || "as the system has them"}`);
    showToolsError();
    Api.setKey(settings.key ?? "");
  }

  function takeSettings() {
    for (const name of numbers) settings[name] = $(`set-${name}`).value === "" ? undefined : Number($(`set-${name}`).value);
    for (const name of texts) settings[name] = $(`set-${name}`).value || undefined;
    settings.thinking = $("thinking").checked;
    Store.write("settings", settings);
    showToolsError();
    Api.setKey(settings.key ?? "");
  }

  function requestBody() {
    const history = messages.map(({role, content, tool_calls, tool_call_id}) =>
      ({role, content, ...(tool_calls?.length ? {tool_calls} : {}), ...(tool_call_id ? {tool_call_id} : {})}));
    if (settings.system) history.unshift({role: "system", content: settings.system});
    const body = {model, messages: history, chat_template_kwargs: {enable_thinking: $("thinking").checked}};
    for (const name of numbers) if (settings[name] !== undefined) body[name] = settings[name];
    const tools = parseTools();
    if (tools) body.tools = tools;
    return body;
  }

  // --- messages on the page

  function element(name, attributes = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value !== undefined) node.setAttribute(key, value);
    }
    node.append(...children);
    return node;
  }

  const button = (text, onclick, more = {}) => element("button", {type: "button", onclick, ...more}, text);
  const names = {user: "You", assistant: "Answer", tool: "Result of a tool"};

  function buildMessage(message, index) {
    const article = element("article", {class: message.role, "aria-label": names[message.role]}, element("h2", {}, names[message.role]));
    article.append(element("div", {class: "body"}));
    article.append(element("div", {class: "tools"}));
    fillMessage(article, message, index);
    return article;
  }

  function fillMessage(article, message, index) {
    const body = article.querySelector(".body");
    if (message.role === "user" || message.role === "tool") {
      body.textContent = message.content;
    } else {
      fillAnswer(body, message);
    }
    const tools = article.querySelector(".tools");
    if (message.writing) {
      tools.replaceChildren();
      return;
    }
    tools.replaceChildren(button("Copy", () => copy(message.content), {"aria-label": `Copy ${names[message.role]}`}));
    if (message.role === "user") tools.append(button("Edit", () => edit(article, index)));
    if (message.role === "assistant") tools.append(button("Regenerate", () => regenerate(index)));
    if (message.figures) tools.append(element("span", {class: "figures muted"}, message.figures));
  }

  function fillAnswer(body, message) {
    if (!body.firstChild) {
      const reasoning = element("details", {class: "reasoning"}, element("summary"), element("div"));
      body.append(reasoning, element("div", {class: "markdown"}), element("div", {class: "calls"}), element("p", {class: "error"}));
    }
    const [reasoning, markdown, calls, error] = body.children;
    reasoning.hidden = !message.reasoning?.trim();
    reasoning.firstChild.textContent = message.writing && !message.content ? "Thinking…" : "Thought first";
    if (message.reasoning) reasoning.lastChild.textContent = message.reasoning.trim();
    Markdown.render(markdown, message.content);
    if (!message.writing) calls.replaceChildren(...(message.tool_calls ?? []).map((call) => buildCall(call)));
    error.textContent = message.error ?? "";
    error.hidden = !message.error;
    body.classList.toggle("waiting", Boolean(message.writing && !message.content && !message.reasoning));
  }

  function buildCall(call) {
    let given = call.function.arguments;
    try {
      given = JSON.stringify(JSON.parse(given), null, 2);
    } catch { /* shown as it came */ }
    const answered = messages.some((m) => m.role === "tool" && m.tool_call_id === call.id);
    const box = element("section", {class: "call", "aria-label": `Call of ${call.function.name}`},
      element("h3", {}, `Calls ${call.function.name}`), element("div", {class: "markdown"}, element("pre", {tabindex: "0"}, element("code", {}, given))));
    if (!answered) {
      const result = element("textarea", {rows: "2", "aria-label": `Result of ${call.function.name}`, placeholder: "Its result"});
      box.append(result, button("Send result", () => sendToolResult(call.id, result.value)));
    }
    return box;
  }

  function showAll() {
    $("log").replaceChildren(...messages.map(buildMessage));
    $("empty").hidden = messages.length > 0;
    $("log").scrollTop = $("log").scrollHeight;
  }

  const atEnd = () => $("log").scrollHeight - $("log").scrollTop - $("log").clientHeight < 60;

  // --- an answer

  function mergeCalls(calls, deltas) {
    for (const delta of deltas) {
      const call = (calls[delta.index ?? 0] ??= {id: "", type: "function", function: {name: "", arguments: ""}});
      if (delta.id) call.id = delta.id;
      if (delta.function?.name) call.function.name = delta.function.name;
      call.function.arguments += delta.function?.arguments ?? "";
    }
  }

  function figures(times, result) {
    const parts = [];
    const tokens = result.usage?.completion_tokens;
    if (times.first) parts.push(`first token after ${((times.first - times.sent) / 1000).toFixed(2)} s`);
    if (tokens) parts.push(`${tokens} tokens`);
    // From the question on: what arrives held back, as calls of tools do, says nothing about the time between two tokens.
    if (tokens && times.last > times.sent) parts.push(`${(tokens * 1000 / (times.last - times.sent)).toFixed(1)} a second`);
    if (result.usage?.prompt_tokens) parts.push(`${result.usage.prompt_tokens} read`);
    if (result.finishReason === "length") parts.push("cut at the limit of tokens");
    return parts.join(" · ");
  }

  async function answer() {
    let body;
    try {
      body = requestBody();
    } catch (error) {
      say(`Tools in the settings are not JSON: ${error.message}`);
      return;
    }
    const message = {role: "assistant", content: "", reasoning: "", tool_calls: [], writing: true};
    messages.push(message);
    const index = messages.length - 1;
    const article = buildMessage(message, index);
    article.classList.add("writing");
    $("log").append(article);
    $("log").scrollTop = $("log").scrollHeight;
    busy(new AbortController());
    const times = {sent: performance.now(), first: 0, last: 0};

    let drawing = false;
    const draw = () => {
      drawing = false;
      const follow = atEnd();
      fillMessage(article, message, index);
      if (follow) $("log").scrollTop = $("log").scrollHeight;
    };
    let result = {};
    try {
      result = await Api.chat(body, running.signal, (delta) => {
        const reasoning = delta.reasoning_content ?? delta.reasoning;
        if (!delta.content && !reasoning && !delta.tool_calls) return;
        times.last = performance.now();
        times.first ||= times.last;
        message.content += delta.content ?? "";
        message.reasoning += reasoning ?? "";
        mergeCalls(message.tool_calls, delta.tool_calls ?? []);
        if (!drawing) requestAnimationFrame(draw);
        drawing = true;
      });
      say(result.finishReason === "length" ? "The answer reached the limit of tokens." : "Answered.");
    } catch (error) {
      if (error.name === "AbortError") {
        say("Stopped.");
      } else {
        message.error = error.message;
        say(error.status === 401 ? "The server asks for an API key: it can be entered under Settings." : "No answer.");
      }
    }
    delete message.writing;
    message.tool_calls = message.tool_calls.filter(Boolean);
    message.figures = figures(times, result);
    article.classList.remove("writing");
    busy(null);
    draw();
    Store.write("messages", messages);
  }

  function busy(controller) {
    running = controller;
    $("send").hidden = Boolean(running);
    $("stop").hidden = !running;
    $("log").setAttribute("aria-busy", String(Boolean(running)));
    if (running) say("Answering…");
  }

  const say = (text) => ($("status").textContent = text);

  // --- what people do

  function send(text) {
    if (running || !text.trim()) return;
    messages.push({role: "user", content: text});
    $("empty").hidden = true;
    $("log").append(buildMessage(messages[messages.length - 1], messages.length - 1));
    answer();
  }

  function sendToolResult(id, content) {
    if (running) return;
    messages.push({role: "tool", content, tool_call_id: id});
    const asked = messages.flatMap((m) => m.tool_calls ?? []).filter((c) => !messages.some((m) => m.tool_call_id === c.id));
    showAll();
    if (!asked.length) answer();
  }

  function regenerate(index) {
    if (running) return;
    messages.length = index;
    showAll();
    answer();
  }

  function edit(article, index) {
    if (running || article.classList.contains("editing")) return;
    article.classList.add("editing");
    const body = article.querySelector(".body");
    const area = element("textarea", {"aria-label": "Edit your message"});
    area.value = messages[index].content;
    const cancel = () => {
      article.replaceWith(buildMessage(messages[index], index));
    };
    const done = () => {
      const text = area.value;
      messages.length = index;
      showAll();
      send(text);
    };
    area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        done();
      } else if (event.key === "Escape") {
        event.stopPropagation();
        cancel();
      }
    });
    body.replaceChildren(area);
    article.querySelector(".tools").replaceChildren(button("Send", done), button("Cancel", cancel));
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      say("Copied.");
    } catch {
      say("The browser does not allow copying here.");
    }
  }

  function newChat() {
    running?.abort();
    messages = [];
    Store.write("messages", messages);
    showAll();
    say("");
    $("prompt").focus();
  }

  function fitPrompt() {
    $("prompt").style.height = "auto";
    $("prompt").style.height = `${$("prompt").scrollHeight + 2}px`;
  }

  function submit() {
    if (running) return;
    const text = $("prompt").value;
    $("prompt").value = "";
    fitPrompt();
    send(text);
  }

  $("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  $("prompt").addEventListener("input", fitPrompt);
  $("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      submit();
    } else if (event.key === "ArrowUp" && !$("prompt").value) {
      const mine = [...document.querySelectorAll("article.user")].pop();
      if (mine) edit(mine, messages.findLastIndex((m) => m.role === "user"));
    }
  });
  $("stop").addEventListener("click", () => {
    running?.abort();
    $("prompt").focus();
  });
  $("new").addEventListener("click", newChat);
  $("settings-open").addEventListener("click", () => $("settings").showModal());
  $("settings").addEventListener("input", takeSettings);
  $("thinking").addEventListener("change", takeSettings);
  $("settings-reset").addEventListener("click", () => {
    settings = {theme: settings.theme};
    Store.write("settings", settings);
    showSettings();
  });
  $("settings").addEventListener("close", connect);
  $("theme").addEventListener("click", () => {
    settings.theme = {"": "light", light: "dark", dark: ""}[settings.theme ?? ""];
    Store.write("settings", settings);
    showSettings();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && running && !$("settings").open) running.abort();
    if (event.key.toLowerCase() === "o" && event.ctrlKey && event.shiftKey) {
      event.preventDefault();
      newChat();
    }
  });

  async function connect() {
    try {
      const served = (await Api.models())[0];
      model = served.id;
      $("model").textContent = served.max_model_len ? `${model} · ${served.max_model_len.toLocaleString()} tokens` : model;
    } catch (error) {
      $("model").textContent = error.status === 401 ? "an API key is needed: Settings" : "no connection";
    }
  }

  // What was being written when the page was left stays as far as it came.
  for (const message of messages) delete message.writing;
  showSettings();
  showAll();
  connect();
})();
