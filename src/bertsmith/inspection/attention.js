"use strict";
// Draws every <div class="attention"> of the page from the JSON block within it: see attention_page.py.
// Text from outside reaches the page through textContent alone.
(() => {
  const ROW = 23, WIDTH = 420, LEFT = 138, RIGHT = 282, TOP = 28; // pixels of the drawing
  const LEAST = 0.01; // weights below are not drawn
  const MOST_LINES = 4000; // a browser stays quick with as many
  const THUMB_CELLS = 64; // a thumbnail of a longer text shows the strongest weight of each cell

  function html(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  function svg(tag, attributes = {}, text = null) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== null) node.textContent = text;
    return node;
  }

  const percent = (weight) => (100 * weight).toFixed(weight < 0.0995 ? 1 : 0) + "%";

  async function inflate(base64) {
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  async function build(root) {
    const data = JSON.parse(root.querySelector('script[type="application/json"]').textContent);
    const [layers, heads, length] = data.shape;
    const levels = await inflate(data.weights);
    const picture = { data, layers, heads, length, chosen: null, pinned: null, special: true };

    // Weights of one head as numbers 0..1, row by row; head -1 is the mean of its layer.
    picture.weights = (layer, head) => {
      const size = length * length, out = new Float32Array(size);
      const from = head < 0 ? 0 : head, to = head < 0 ? heads : head + 1;
      for (let h = from; h < to; h++) {
        const start = (layer * heads + h) * size;
        for (let i = 0; i < size; i++) out[i] += levels[start + i];
      }
      for (let i = 0; i < size; i++) out[i] /= 255 * (to - from);
      return out;
    };

    picture.title = html("h3");
    picture.habit = html("p", { class: "habit" });
    picture.drawing = html("div", { class: "drawing" });
    picture.says = html("p", { class: "says", "aria-live": "polite" });
    const box = html("input", { type: "checkbox", checked: "" });
    box.addEventListener("change", () => { picture.special = box.checked; draw(picture); });
    const save = html("button", { type: "button" }, "Save as SVG");
    save.addEventListener("click", () => download(picture));
    const tools = html("div", { class: "tools" }, html("label", {}, box, "lines to [CLS] and [SEP]"), save);
    picture.thumbnails = thumbnails(picture);
    root.append(picture.thumbnails.grid, html("div", { class: "view" },
      picture.title, picture.habit, picture.drawing, picture.says, tools));
    choose(picture, ...data.start);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => picture.thumbnails.paint());
    root.dataset.ready = "yes";
  }

  // The grid of heads: one button each, arrow keys move between them.
  function thumbnails(picture) {
    const { layers, heads } = picture;
    const size = Math.max(22, Math.min(36, Math.floor(300 / (heads + 1)) - 4));
    const grid = html("div", { class: "heads", role: "radiogroup", "aria-label": "layer and head" });
    grid.style.gridTemplateColumns = `auto repeat(${heads + 1}, max-content)`;
    grid.style.setProperty("--thumb", `${size}px`);
    const buttons = new Map();
    grid.append(html("span"), html("span", {}, "mean"));
    for (let head = 0; head < heads; head++) grid.append(html("span", {}, String(head + 1)));
    for (let layer = 0; layer < layers; layer++) {
      grid.append(html("span", { class: "row" }, `layer ${layer + 1}`));
      for (let head = -1; head < heads; head++) {
        const name = head < 0 ? `layer ${layer + 1}, mean of heads` : `layer ${layer + 1}, head ${head + 1}`;
        const button = html("button", { type: "button", role: "radio", "aria-label": name, title: name }, html("canvas"));
        button.addEventListener("click", () => choose(picture, layer, head));
        button.addEventListener("keydown", (event) => {
          const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
          if (!step) return;
          event.preventDefault();
          const next = buttons.get(`${layer + step[0]},${head + step[1]}`);
          if (next) { next.focus(); next.click(); }
        });
        buttons.set(`${layer},${head}`, button);
        grid.append(button);
      }
    }
    const paint = () => buttons.forEach((button, key) => {
      const [layer, head] = key.split(",").map(Number);
      thumbnail(button.firstChild, picture.weights(layer, head), picture.length);
    });
    paint();
    return { grid, buttons, paint };
  }

  function thumbnail(canvas, weights, length) {
    const cells = Math.min(length, THUMB_CELLS), image = new ImageData(cells, cells), most = new Float32Array(cells * cells);
    for (let query = 0; query < length; query++) {
      for (let key = 0; key < length; key++) {
        const cell = Math.floor((query * cells) / length) * cells + Math.floor((key * cells) / length);
        most[cell] = Math.max(most[cell], weights[query * length + key]);
      }
    }
    const color = getComputedStyle(document.documentElement).getPropertyValue("--blue").trim();
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
    most.forEach((weight, cell) => image.data.set([red, green, blue, Math.round(255 * Math.sqrt(weight))], 4 * cell));
    canvas.width = canvas.height = cells;
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  function choose(picture, layer, head) {
    picture.chosen = [layer, head];
    picture.thumbnails.buttons.forEach((button, key) => {
      const here = key === `${layer},${head}`;
      button.setAttribute("aria-checked", String(here));
      button.tabIndex = here ? 0 : -1;
    });
    picture.title.textContent = head < 0 ? `Layer ${layer + 1}, mean of its heads` : `Layer ${layer + 1}, head ${head + 1}`;
    picture.habit.textContent = head < 0 ? "" : picture.data.habits[layer][head];
    draw(picture);
  }

  const isSpecial = (token) => token === "[CLS]" || token === "[SEP]";
  const height = (picture, index) => TOP + ROW * (index + 0.5) + (picture.data.type_ids[index] ? ROW / 2 : 0);

  function draw(picture) {
    const { data, length } = picture;
    const weights = picture.weights(...picture.chosen);
    const last = height(picture, length - 1) + ROW / 2 + 4;
    const canvas = svg("svg", { viewBox: `0 0 ${WIDTH} ${last}`, width: WIDTH, role: "group", tabindex: 0,
      "aria-label": "Tokens with lines of attention. Arrow keys choose a token, Escape none." });
    canvas.append(svg("text", { class: "column end", x: LEFT - 8, y: 13 }, "looks from"));
    canvas.append(svg("text", { class: "column", x: RIGHT + 8, y: 13 }, "looks at"));
    picture.lines = lines(picture, weights);
    for (const line of picture.lines) canvas.append(line.path);
    picture.sides = ["from", "to"].map((side) => data.tokens.map((token, index) => {
      const group = svg("g", { class: "token" });
      const x = side === "from" ? 4 : RIGHT + 4;
      group.append(svg("rect", { x, y: height(picture, index) - ROW / 2 + 1, width: WIDTH - RIGHT - 8, height: ROW - 2, rx: 3 }));
      const at = { x: side === "from" ? LEFT - 8 : RIGHT + 8, y: height(picture, index) + 4.5 };
      const short = token.length > 14 ? token.slice(0, 13) + "…" : token;
      group.append(svg("text", { ...at, class: side === "from" ? "end" : "" }, short));
      if (short !== token) group.append(svg("title", {}, token));
      const here = { side, index };
      group.addEventListener("pointerenter", () => show(picture, weights, here));
      group.addEventListener("pointerleave", () => show(picture, weights, picture.pinned));
      group.addEventListener("click", () => {
        picture.pinned = same(picture.pinned, here) ? null : here;
        show(picture, weights, picture.pinned);
      });
      canvas.append(group);
      return group;
    }));
    canvas.addEventListener("keydown", (event) => {
      const moved = move(picture, event.key);
      if (moved === undefined) return;
      event.preventDefault();
      picture.pinned = moved;
      show(picture, weights, moved);
    });
    picture.drawing.replaceChildren(canvas);
    show(picture, weights, picture.pinned);
  }

  function lines(picture, weights) {
    const { data, length } = picture, found = [];
    for (let query = 0; query < length; query++) {
      for (let key = 0; key < length; key++) {
        const weight = weights[query * length + key];
        if (weight < LEAST || (!picture.special && isSpecial(data.tokens[key]))) continue;
        found.push({ query, key, weight });
      }
    }
    found.sort((one, other) => one.weight - other.weight); // strong lines lie on top
    const middle = (LEFT + RIGHT) / 2, drawn = found.slice(-MOST_LINES);
    for (const line of drawn) {
      const from = height(picture, line.query), to = height(picture, line.key);
      line.path = svg("path", { d: `M${LEFT} ${from}C${middle} ${from} ${middle} ${to} ${RIGHT} ${to}`,
        "stroke-width": (0.75 + 2.75 * line.weight).toFixed(2) });
    }
    return drawn;
  }

  const same = (one, other) => one !== null && one.side === other.side && one.index === other.index;

  function move(picture, key) {
    const now = picture.pinned ?? { side: "from", index: -1 }, end = picture.length - 1;
    if (key === "ArrowDown") return { ...now, index: Math.min(now.index + 1, end) };
    if (key === "ArrowUp") return { ...now, index: Math.max(now.index - 1, 0) };
    if (key === "ArrowLeft") return { side: "from", index: Math.max(now.index, 0) };
    if (key === "ArrowRight") return { side: "to", index: Math.max(now.index, 0) };
    return key === "Escape" ? null : undefined;
  }

  // Lines of one token alone, and how strong they are; all lines where no token is pointed at.
  function show(picture, weights, here) {
    const { data, length } = picture, outgoing = here === null || here.side === "from";
    const weight = (other) => (outgoing ? weights[here.index * length + other] : weights[other * length + here.index]);
    const faint = Math.min(0.02, 20 / picture.lines.length);
    for (const line of picture.lines) {
      const own = here === null || (outgoing ? line.query : line.key) === here.index;
      line.path.style.strokeOpacity = own ? Math.min(1, 0.06 + line.weight) : faint;
    }
    picture.sides.forEach((groups, side) => groups.forEach((group, index) => {
      const facing = here !== null && (side === 1) === outgoing;
      group.firstChild.style.fillOpacity = facing ? 0.6 * weight(index) : 0;
      group.classList.toggle("chosen", here !== null && !facing && index === here.index);
    }));
    if (here === null) {
      picture.says.textContent = "Point at a token to see its lines alone; click to keep them.";
      return;
    }
    const order = data.tokens.map((token, index) => ({ token, weight: weight(index) })).sort((a, b) => b.weight - a.weight);
    const named = order.slice(0, 4).map((one) => `${one.token} ${percent(one.weight)}`).join(", ");
    const verb = outgoing ? "looks at" : "is looked at by";
    picture.says.replaceChildren(html("strong", {}, data.tokens[here.index]), ` ${verb} ${named}`);
  }

  // The drawing as a file of its own: colours and fonts, which the page's style gives, are written into it.
  function download(picture) {
    const drawn = picture.drawing.firstChild, copy = drawn.cloneNode(true);
    const originals = [drawn, ...drawn.querySelectorAll("*")];
    [copy, ...copy.querySelectorAll("*")].forEach((node, index) => {
      const look = getComputedStyle(originals[index]);
      for (const name of ["fill", "fill-opacity", "stroke", "stroke-opacity", "font-family", "font-size", "font-weight", "text-anchor"]) {
        node.style.setProperty(name, look.getPropertyValue(name));
      }
    });
    copy.style.background = getComputedStyle(document.body).backgroundColor;
    const file = new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" });
    const address = URL.createObjectURL(file);
    const [layer, head] = picture.chosen;
    html("a", { href: address, download: `attention-layer-${layer + 1}-${head < 0 ? "mean" : `head-${head + 1}`}.svg` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }

  for (const root of document.querySelectorAll(".attention")) {
    build(root).catch((error) => {
      root.append(html("p", { class: "note" }, `The picture could not be drawn: ${error.message}`));
      throw error;
    });
  }
})();
