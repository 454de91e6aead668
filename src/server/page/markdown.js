"use strict";
// Markdown as nodes. Text of a model becomes text nodes and a closed set of elements made here, never HTML: nothing that it
// writes can run, load or style anything. Links are kept only for http, https and mailto.
const Markdown = (() => {
  const make = (name, children = [], attributes = {}) => {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };

  // --- inside a line

  const safeUrl = (url) => (/^(https?:\/\/|mailto:)/i.test(url) ? url : null);

  // Tried in this order at each place; each matches at the start of the rest.
  const inlineRules = [
    [/^\\([!-\/:-@[-`{-~])/, (m) => m[1]],
    [/^(`+)(?!`)([\s\S]*?[^`])\1(?!`)/, (m) => make("code", [m[2].replace(/^ (.*) $/s, "$1").replace(/\n/g, " ")])],
    [/^!?\[([^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]\(\s*<?([^\s<>()]*(?:\([^\s()]*\)[^\s<>()]*)*)>?(?:\s+"[^"]*")?\s*\)/, (m, depth) => {
      const url = safeUrl(m[2]);
      return url ? link(url, inline(m[1], depth + 1)) : m[0];
    }],
    [/^<((?:https?:\/\/|mailto:)[^\s<>]*)>/i, (m) => link(m[1], [m[1]])],
    [/^https?:\/\/[^\s<>"'`]*[^\s<>"'`.,:;!?)\]*_~]/i, (m) => link(m[0], [m[0]])],
    [/^\*\*(?=\S)([\s\S]*?\S)\*\*(?!\*)/, (m, depth) => make("strong", inline(m[1], depth + 1))],
    [/^\*(?=[^\s*])([\s\S]*?[^\s*])\*(?!\*)/, (m, depth) => make("em", inline(m[1], depth + 1))],
    [/^~~(?=\S)([\s\S]*?\S)~~/, (m, depth) => make("del", inline(m[1], depth + 1))],
    [/^(?: {2,}|\\)\n/, () => make("br")],
  ];
  // Underscores count only at the edges of words: snake_case stays as it is.
  const underscoreRules = [
    [/^__(?=\S)([\s\S]*?\S)__(?!\w)/, (m, depth) => make("strong", inline(m[1], depth + 1))],
    [/^_(?=[^\s_])([\s\S]*?[^\s_])_(?!\w)/, (m, depth) => make("em", inline(m[1], depth + 1))],
  ];
  const link = (url, children) => make("a", children, {href: url, target: "_blank", rel: "noopener noreferrer"});

  const longestLine = 20000;  // beyond it a line is shown as it is: looking for ends of emphasis takes quadratic time
  function inline(text, depth = 0) {
    if (depth > 8 || text.length > longestLine) return [text];
    const nodes = [];
    let plain = "";
    const flush = () => {
      if (plain) nodes.push(plain);
      plain = "";
    };
    for (let i = 0; i < text.length;) {
      const next = text.slice(i).search(/[\\`\[!<*_~]|https?:\/\/| {2,}\n/i);
      if (next < 0) {
        plain += text.slice(i);
        break;
      }
      plain += text.slice(i, i + next);
      i += next;
      const rest = text.slice(i);
      const atWordEdge = !/\w/.test(text[i - 1] ?? " ");
      const rules = rest[0] === "_" ? (atWordEdge ? underscoreRules : []) : inlineRules;
      let taken = 0;
      for (const [pattern, build] of rules) {
        const match = pattern.exec(rest);
        if (!match) continue;
        const built = build(match, depth);
        if (typeof built === "string") plain += built;
        else {
          flush();
          nodes.push(built);
        }
        taken = match[0].length;
        break;
      }
      if (!taken) plain += text[i];
      i += taken || 1;
    }
    flush();
    return nodes;
  }

  // --- blocks: a list of {source, build}, so that a text that only grew keeps the nodes of what did not change

  const fence = /^( {0,3})(`{3,}|~{3,})\s*([^`]*)$/;
  const item = /^( *)([-*+]|\d{1,9}[.)])( +|$)/;
  const tableRule = /^ *\|?(?: *:?-+:? *\|)+ *(?::?-+:?)? *$/;
  const cells = (line) => line.trim().replace(/^\||(?<!\\)\|$/g, "").split(/(?<!\\)\|/).map((c) => c.trim().replace(/\\\|/g, "|"));

  function takeFence(lines, i, open) {
    const body = [];
    let j = i + 1;
    for (; j < lines.length; ++j) {
      const close = /^ {0,3}(`{3,}|~{3,})\s*$/.exec(lines[j]);
      if (close && close[1][0] === open[2][0] && close[1].length >= open[2].length) break;
      body.push(lines[j].replace(new RegExp(`^ {0,${open[1].length}}`), ""));
    }
    return [Math.min(j + 1, lines.length), () => codeBlock(body.join("\n"), open[3].trim())];
  }

  function codeBlock(text, language) {
    const copy = make("button", ["Copy"], {type: "button"});
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
        copy.textContent = "Copied";
      } catch {
        copy.textContent = "Not allowed";
      }
      setTimeout(() => (copy.textContent = "Copy"), 1500);
    });
    return make("pre", [make("code", [text], language ? {"data-language": language.split(/\s/)[0]} : {}), copy], {tabindex: "0"});
  }

  function takeTable(lines, i) {
    let j = i + 2;
    while (j < lines.length && lines[j].includes("|") && lines[j].trim()) ++j;
    const rows = lines.slice(i, j);
    return [j, (depth) => {
      const row = (line, name) => make("tr", cells(line).map((c) => make(name, inline(c, depth))));
      const head = make("thead", [row(rows[0], "th")]);
      return make("div", [make("table", [head, make("tbody", rows.slice(2).map((r) => row(r, "td")))])], {class: "scroll", tabindex: "0"});
    }];
  }

  function takeList(lines, i) {
    const first = item.exec(lines[i]);
    const ordered = /\d/.test(first[2]);
    const indent = first[1].length;
    const items = [];
    let j = i;
    while (j < lines.length) {
      const start = item.exec(lines[j]);
      if (start && start[1].length <= indent + 1 && /\d/.test(start[2]) === ordered) {
        items.push([lines[j].slice(start[0].length)]);
      } else if (!lines[j].trim()) {
        const after = lines[j + 1] ?? "";
        if (!/^ {2,}\S/.test(after) && !item.test(after)) break;
        items[items.length - 1].push("");
      } else if (/^ {2,}\S/.test(lines[j]) || (!start && lines[j - 1].trim() && !beginsBlock(lines, j))) {
        items[items.length - 1].push(lines[j].replace(new RegExp(`^ {0,${indent + 4}}`), (s) => s.slice(Math.min(s.length, indent + start0(first)))));
      } else {
        break;
      }
      ++j;
    }
    return [j, (depth) => {
      const list = make(ordered ? "ol" : "ul", items.map((body) => make("li", listItem(body, depth))));
      if (ordered && parseInt(first[2], 10) !== 1) list.setAttribute("start", String(parseInt(first[2], 10)));
      return list;
    }];
  }
  const start0 = (match) => match[2].length + Math.max(1, Math.min(match[3].length, 4));

  // A tight item is its line and what is nested in it; a paragraph of its own only where a blank line made one.
  function listItem(body, depth) {
    const nodes = blocks(body.join("\n")).map((block) => block.build(depth + 1));
    if (nodes[0]?.nodeName === "P" && !body.includes("")) nodes.splice(0, 1, ...nodes[0].childNodes);
    return nodes;
  }

  const beginsBlock = (lines, i) =>
    fence.test(lines[i]) || /^ {0,3}#{1,6} /.test(lines[i]) || /^ {0,3}>/.test(lines[i]) || item.test(lines[i]) ||
    /^ {0,3}([-*_])( *\1){2,} *$/.test(lines[i]) || (lines[i].includes("|") && tableRule.test(lines[i + 1] ?? ""));

  function takeBlock(lines, i) {
    const line = lines[i];
    const open = fence.exec(line);
    if (open) return takeFence(lines, i, open);
    const heading = /^ {0,3}(#{1,6}) +(.*?)(?: +#+)? *$/.exec(line);
    if (heading) return [i + 1, (depth) => make(`h${Math.min(heading[1].length + 2, 6)}`, inline(heading[2], depth))];
    if (/^ {0,3}([-*_])( *\1){2,} *$/.test(line)) return [i + 1, () => make("hr")];
    if (/^ {0,3}>/.test(line)) {
      let j = i;
      while (j < lines.length && (/^ {0,3}>/.test(lines[j]) || (lines[j].trim() && !beginsBlock(lines, j)))) ++j;
      const body = lines.slice(i, j).map((l) => l.replace(/^ {0,3}> ?/, "")).join("\n");
      return [j, (depth) => make("blockquote", blocks(body).map((b) => b.build(depth + 1)))];
    }
    if (item.test(line)) return takeList(lines, i);
    if (line.includes("|") && tableRule.test(lines[i + 1] ?? "")) return takeTable(lines, i);
    let j = i + 1;
    while (j < lines.length && lines[j].trim() && !beginsBlock(lines, j)) ++j;
    const text = lines.slice(i, j).join("\n");
    return [j, (depth) => make("p", inline(text, depth))];
  }

  function blocks(text) {
    const lines = text.replace(/\r\n?/g, "\n").replace(/\t/g, "    ").split("\n");
    const found = [];
    for (let i = 0; i < lines.length;) {
      if (!lines[i].trim()) {
        ++i;
        continue;
      }
      const [end, build] = takeBlock(lines, i);
      const source = lines.slice(i, end).join("\n");
      found.push({source, build: (depth = 0) => (depth > 8 ? make("p", [source]) : build(depth))});
      i = end;
    }
    return found;
  }

  // Shows `text` in `into`. Blocks whose source is as it was keep their nodes: selections and scroll positions in them stay.
  function render(into, text) {
    const now = blocks(text);
    const old = into.markdownSources ?? [];
    let same = 0;
    while (same < now.length && same < old.length && now[same].source === old[same]) ++same;
    while (into.childNodes.length > same) into.lastChild.remove();
    for (const block of now.slice(same)) into.append(block.build());
    into.markdownSources = now.map((block) => block.source);
  }

  return {render};
})();
