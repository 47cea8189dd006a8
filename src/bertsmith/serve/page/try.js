"use strict";
const at = (id) => document.getElementById(id);
let key = "";

/* An element with attributes and children; text is only ever text. */
function made(tag, attributes = {}, ...children) {
  const one = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, value);
  one.append(...children);
  return one;
}

async function ask(path, body) {
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const options = body === undefined ? { headers }
    : { method: "POST", headers: { ...headers, "content-type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer.");
  }
  if (answer.status === 401) {
    at("key").hidden = false;
    at("secret").focus();
  }
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error((said.error && (said.error.message || said.error)) || `The server said ${answer.status}.`);
  return { said, cut: Number(answer.headers.get("x-truncated-texts")), tokens: answer.headers.get("x-compute-tokens") };
}

/* A form whose answer is shown under it. */
function tool(id, work) {
  const section = at(id), form = section.querySelector("form"), result = section.querySelector(".result");
  const status = section.querySelector(".status"), button = form.querySelector("button");
  const run = async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-busy") === "true") return;
    button.setAttribute("aria-busy", "true");
    status.classList.remove("wrong");
    const began = performance.now();
    try {
      const { shown, cut, tokens } = await work();
      result.replaceChildren(...shown);
      result.hidden = false;
      const parts = [`${Math.max(1, Math.round(performance.now() - began))} ms`];
      if (tokens) parts.unshift(`${tokens} tokens`);
      if (cut) parts.push(cut === 1 ? "a text was cut to the model’s length" : `${cut} texts were cut to the model’s length`);
      status.textContent = parts.join(" · ");
    } catch (error) {
      status.textContent = error.message;
      status.classList.add("wrong");
      result.hidden = true;
    }
    button.removeAttribute("aria-busy");
  };
  form.addEventListener("submit", run);
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run(event);
  });
}

tool("compare", async () => {
  const lines = at("sentences").value.split("\n").map((line) => line.trim()).filter(Boolean);
  if (lines.length < 2 || lines.length > 8) throw new Error("Write two to eight sentences, one a line.");
  const { said, cut, tokens } = await ask("embed", { inputs: lines });
  const cosine = said.map((a) => said.map((b) => a.reduce((sum, x, i) => sum + x * b[i], 0)));
  const pairs = lines.flatMap((_, i) => lines.slice(i + 1).map((_, k) => [i, i + 1 + k, cosine[i][i + 1 + k]]));
  pairs.sort((a, b) => b[2] - a[2]);
  const [most, least] = [pairs[0][2], pairs[pairs.length - 1][2]];
  const head = made("tr", {}, made("td", { class: "self" }), ...lines.map((_, i) => made("th", { scope: "col" }, `${i + 1}`)));
  const rows = lines.map((line, i) => {
    const cells = lines.map((_, k) => {
      if (i === k) return made("td", { class: "self" }, "·");
      const cell = made("td", {}, cosine[i][k].toFixed(2));
      cell.style.setProperty("--share", most > least ? (cosine[i][k] - least) / (most - least) : 1);
      return cell;
    });
    return made("tr", {}, made("th", { scope: "row" }, made("b", {}, `${i + 1}`), made("span", {}, line)), ...cells);
  });
  const table = made("table", { class: "likeness" }, made("caption", { class: "unseen" }, "Cosines between the sentences"),
    made("thead", {}, head), made("tbody", {}, ...rows));
  const shown = [made("div", { class: "scroll", tabindex: "0" }, table)];
  if (pairs.length > 1) {
    const say = (name, [i, k]) => made("div", {}, made("dt", {}, name), made("dd", {}, lines[i]), made("dd", {}, lines[k]));
    shown.push(made("dl", { class: "pairs" }, say("Most alike", pairs[0]), say("Least alike", pairs[pairs.length - 1])));
  }
  shown.push(made("p", { class: "quiet" }, "Which of them are closer is what counts: cosines of one model are not those of another."));
  return { shown, cut, tokens };
});

tool("fill", async () => {
  const text = at("masked").value;
  const { said, cut, tokens } = await ask("fill", { text, k: 5 });
  const parts = text.split("[MASK]");
  const whole = made("p", { class: "said" }, parts[0]);
  said.masks.forEach((mask, i) => whole.append(made("mark", {}, mask[0].token), parts[i + 1]));
  const lists = said.masks.map((mask, i) => {
    const most = mask[0].probability;
    const bars = mask.map(({ token, probability }) => {
      const bar = made("span");
      bar.style.width = `${100 * probability / most}%`;
      const share = `${(100 * probability).toFixed(1)} %`;
      return made("li", {}, made("span", { class: "name" }, token), made("span", { class: "track" }, bar), made("span", { class: "share" }, share));
    });
    const title = said.masks.length > 1 ? [made("h3", {}, `Mask ${i + 1}`)] : [];
    return made("div", {}, ...title, made("ol", { class: "bars" }, ...bars));
  });
  return { shown: [whole, made("div", { class: "columns" }, ...lists)], cut, tokens };
});

at("insert").addEventListener("click", () => {
  const field = at("masked");
  field.setRangeText("[MASK]", field.selectionStart, field.selectionEnd, "end");
  field.focus();
});

tool("search", async () => {
  const { said, cut } = await ask("search", { query: at("query").value, mode: at("mode").value });
  const items = said.hits.map(({ rank, id, text, fields }) => {
    const more = Object.entries(fields).filter(([, value]) => value !== null).map(([name, value]) => `${name}: ${value}`);
    return made("li", {}, made("span", { class: "rank" }, `${rank}`),
      made("div", {}, made("p", {}, text), made("small", {}, [id, ...more].join(" · "))));
  });
  return { shown: items.length ? [made("ol", { class: "hits" }, ...items)] : [made("p", { class: "quiet" }, "Nothing was found.")], cut };
});

async function begin() {
  at("trouble").hidden = true;
  try {
    const { said } = await ask("v1/models");
    const able = new Set(said.data.flatMap((model) => model.capabilities));
    for (const id of ["fill", "search"]) at(id).hidden = !able.has(id);
    const first = said.data[0];
    at("title").textContent = said.data.map((model) => model.id).join(", ");
    const numbers = `vectors of ${first.dimensions} numbers, texts of up to ${first.max_input_length} tokens`;
    const things = ["compare sentences", ...(able.has("fill") ? ["fill masks"] : []), ...(able.has("search") ? ["search"] : [])];
    const list = things.length > 1 ? `${things.slice(0, -1).join(", ")} and ${things.at(-1)}` : things[0];
    at("about").textContent = `${list[0].toUpperCase()}${list.slice(1)}, on this server: ${numbers}.`;
    at("key").hidden = true;
  } catch (error) {
    if (!at("key").hidden && !key) return;
    at("trouble").textContent = error.message;
    at("trouble").hidden = false;
  }
}

at("key").addEventListener("submit", (event) => {
  event.preventDefault();
  key = at("secret").value.trim();
  begin();
});
at("example").textContent = `curl ${location.origin}/v1/embeddings -H 'content-type: application/json' \\
  -d '{"input": ["A cat sat.", "A feline rested."]}'`;
begin();
