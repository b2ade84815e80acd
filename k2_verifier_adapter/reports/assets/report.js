"use strict";
// Shows the failed cases. What vendors wrote is only ever put into the page as text.
(() => {
  const PAGE = 50;
  const cases = JSON.parse(document.getElementById("cases-data").textContent);
  const browser = document.getElementById("case-browser");
  if (!browser) return;
  const list = document.getElementById("case-list");
  const kind = document.getElementById("case-class");
  const tool = document.getElementById("case-tool");
  const text = document.getElementById("case-text");
  const row = document.getElementById("case-row");
  const count = document.getElementById("case-count");
  const more = document.getElementById("case-more");
  let found = [];
  let shown = 0;

  const make = (name, text, className) => {
    const node = document.createElement(name);
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    return node;
  };

  // A text is a list of parts; those in a list of their own are marked.
  const marked = (parts) => {
    const block = make("pre");
    for (const part of parts) {
      if (typeof part === "string") block.append(part);
      else block.append(make("mark", part[0]));
    }
    block.tabIndex = 0;
    return block;
  };

  const group = (title, ...nodes) => {
    const box = make("div", undefined, "group");
    box.append(make("h3", title), ...nodes);
    return box;
  };

  const callNodes = (calls) =>
    calls.flatMap((call) => {
      const name = make("p", undefined, "call");
      name.append(make("code", call.name || "(no name)"));
      if (call.id) name.append(" ", make("small", call.id));
      return [name, marked(call.arguments)];
    });

  const failureItem = (failure) => {
    const item = make("li");
    item.append(make("b", failure.class), " ", failure.detail || "");
    const where = [];
    if (failure.tool !== undefined) where.push("tool: " + failure.tool);
    if (failure.call !== undefined) where.push("call " + failure.call);
    if (failure.path !== undefined) where.push("at " + failure.path);
    if (failure.keyword !== undefined) where.push("keyword " + failure.keyword);
    if (where.length) item.append(make("small", where.join(", ")));
    return item;
  };

  const request = (item) => {
    const nodes = [];
    if (item.before) nodes.push(make("p", "… " + item.before + " earlier messages", "quiet"));
    for (const [role, text] of item.turns || []) {
      const turn = make("div", undefined, "turn");
      turn.append(make("b", role), marked([text]));
      nodes.push(turn);
    }
    return group("Request: the last messages", ...nodes);
  };

  const answer = (item) => {
    const nodes = [make("p", [item.ended, item.effort].filter(Boolean).join(" · "), "quiet")];
    for (const [name, parts] of Object.entries(item.texts || {})) {
      nodes.push(make("p", name, "call"), marked(parts));
    }
    nodes.push(...callNodes(item.calls || []));
    if (item.raw) {
      const raw = make("details");
      raw.append(make("summary", "Raw answer"), marked([item.raw]));
      nodes.push(raw);
    }
    return group("Answer", ...nodes);
  };

  const fill = (node, item) => {
    const failures = make("ul", undefined, "plain");
    failures.append(...item.failures.map(failureItem));
    node.append(group("What is wrong", failures));
    if (item.ended) {
      const sides = make("div", undefined, "sides");
      const official = [make("p", item.official, "quiet"), ...callNodes(item.official_calls || [])];
      sides.append(answer(item), group("Official answer", ...official));
      node.append(sides);
    }
    if (item.turns) node.append(request(item));
  };

  const caseNode = (item) => {
    const node = make("details", undefined, "case");
    node.id = "case-" + item.row + (item.repeat ? "-" + item.repeat : "");
    const head = make("summary");
    const name = "Row " + item.row + (item.repeat ? ", repeat " + item.repeat : "");
    head.append(make("b", name), " ", make("span", "data_index " + item.data_index, "quiet"), " ");
    for (const each of item.classes) head.append(make("span", each, "chip"), " ");
    if (item.prompt) head.append(make("span", item.prompt, "prompt"));
    node.append(head);
    node.addEventListener("toggle", () => {
      if (node.open && node.childElementCount === 1) fill(node, item);
    });
    return node;
  };

  const showMore = (upTo) => {
    const end = Math.min(found.length, Math.max(shown + PAGE, upTo || 0));
    for (; shown < end; shown += 1) list.append(caseNode(found[shown]));
    more.hidden = shown >= found.length;
    count.textContent = shown + " of " + found.length + " shown";
  };

  // All that a case holds, in small letters; made once it is searched for.
  const words = new Map();
  const holds = (item, sought) => {
    if (!words.has(item)) words.set(item, JSON.stringify(item).toLowerCase());
    return words.get(item).includes(sought);
  };

  const filter = () => {
    const wanted = row.value.trim();
    // As it stands in the JSON: a quotation mark is escaped there.
    const sought = JSON.stringify(text.value.trim()).slice(1, -1).toLowerCase();
    found = cases.filter(
      (item) =>
        (!kind.value || item.classes.includes(kind.value)) &&
        (!tool.value || (item.tools || []).includes(tool.value)) &&
        (!sought || holds(item, sought)) &&
        (!wanted || String(item.row) === wanted),
    );
    list.replaceChildren();
    shown = 0;
    showMore();
  };

  // Whoever follows a link to a section wants to see it.
  const unfold = () => {
    const section = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    const fold = section && section.querySelector(":scope > details.fold");
    if (fold) fold.open = true;
  };

  const follow = () => {
    unfold();
    const match = /^#case-(\d+)$/.exec(location.hash);
    if (!match) return;
    const place = cases.findIndex((item) => item.row === Number(match[1]));
    if (place < 0) return;
    const filters = [kind, tool, text, row];
    if (filters.some((each) => each.value)) {
      for (const each of filters) each.value = "";
      filter();
    }
    if (place >= shown) showMore(place + 1);
    const node = list.children[place];
    node.open = true;
    node.scrollIntoView();
    node.firstElementChild.focus({ preventScroll: true });
  };

  browser.hidden = false;
  kind.addEventListener("change", filter);
  tool.addEventListener("change", filter);
  text.addEventListener("input", filter);
  row.addEventListener("input", filter);
  more.addEventListener("click", () => {
    const first = shown;
    showMore();
    list.children[first].firstElementChild.focus();
  });
  window.addEventListener("hashchange", follow);
  // A link to the case that is already in the address does not change it.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#case-']");
    if (link && link.getAttribute("href") === location.hash) follow();
  });
  filter();
  follow();
})();
