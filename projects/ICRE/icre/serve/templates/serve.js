"use strict";
// The page of `search serve`. Every text is set as text, never as HTML; every address is relative.

const $ = (id) => document.getElementById(id);
const KEY = "icre-token"; // in sessionStorage: for this tab, until it is closed
const CAMERAS = 60; // as boxes; more are typed
let chosen = []; // {file, url}
let limits = { images: 16, bytes: 20971520 };
let pictures = []; // addresses of the shown blobs

function make(tag, text, ...classes) {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  element.classList.add(...classes.filter(Boolean));
  return element;
}

function say(text, quiet = false) {
  $("message").textContent = text;
  $("message").classList.toggle("quiet", quiet);
}

async function call(path, options = {}) {
  const token = sessionStorage.getItem(KEY);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let reply;
  try {
    reply = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch {
    throw new Error("no answer from the service: it was stopped, or the request was too large");
  }
  if (reply.ok) return reply;
  if (reply.status === 401) {
    $("access").hidden = false;
    throw new Error(token ? "this token is not known: enter another" : "enter a token");
  }
  const body = await reply.json().catch(() => ({}));
  throw new Error(body.detail || `the service answers ${reply.status}`);
}

async function open() {
  const info = await (await call("v1/info")).json();
  limits = info.limits;
  const times = info.times ? `, ${info.times.map((time) => time.slice(0, 10)).join(" to ")}` : "";
  $("about").textContent = `${info.images} images${times}`;
  $("rate").hidden = !info.calibrated.length;
  $("rate").dataset.calibrated = info.calibrated.join(" ");
  document.forms.search.top.max = limits.top;
  const box = $("cameras");
  box.querySelectorAll("label").forEach((label) => label.remove());
  const all = info.more_cameras ? [] : info.cameras;
  box.hidden = !info.cameras.length;
  if (all.length && all.length <= CAMERAS) {
    for (const camera of all) {
      const label = make("label", "");
      const input = make("input");
      Object.assign(input, { type: "checkbox", name: "camera", value: camera });
      label.append(input, camera);
      box.append(label);
    }
  } else {
    const label = make("label", "");
    label.append(Object.assign(make("input"), { name: "camera", placeholder: "a camera" }));
    box.append(label);
  }
  if (info.problem) say(info.problem);
}

async function start() {
  try {
    say("");
    await open();
    $("access").hidden = true;
  } catch (error) {
    say(error.message);
    if (!$("access").hidden) $("token").focus();
  }
}

function choose(files) {
  say("");
  for (const file of files) {
    if (chosen.length >= limits.images) {
      say(`at most ${limits.images} images at a time`);
      break;
    }
    chosen.push({ file, url: URL.createObjectURL(file) });
  }
  show();
}

function show() {
  $("chosen").replaceChildren(
    ...chosen.map((one) => {
      const item = make("li");
      const image = make("img");
      Object.assign(image, { src: one.url, alt: one.file.name });
      const button = make("button", "Remove");
      button.type = "button";
      button.setAttribute("aria-label", `Remove ${one.file.name}`);
      button.addEventListener("click", () => {
        URL.revokeObjectURL(one.url);
        chosen = chosen.filter((other) => other !== one);
        show();
        $("files").focus();
      });
      item.append(image, button);
      return item;
    }),
  );
}

function request() {
  const form = document.forms.search;
  const data = new FormData();
  for (const { file } of chosen) data.append("image", file);
  for (const [name, value] of new FormData(form)) {
    if (typeof value !== "string" || value.trim() === "") continue;
    const calibrated = ($("rate").dataset.calibrated || "").split(" ");
    if (name === "far" && !calibrated.includes(form.modality.value)) continue;
    data.append(name, value.trim());
  }
  return data;
}

async function search(event) {
  event.preventDefault();
  const bytes = chosen.reduce((sum, one) => sum + one.file.size, 0);
  if (!chosen.length) return say("choose an image first");
  if (bytes > limits.bytes) {
    const most = (limits.bytes / 2 ** 20).toFixed(1);
    return say(`the images are too large: at most ${most} MB together`);
  }
  $("go").disabled = true;
  say("searching ...", true);
  try {
    const asked = [...chosen];
    const found = await (await call("v1/query", { method: "POST", body: request() })).json();
    say(found.note || "");
    pictures.forEach((url) => URL.revokeObjectURL(url));
    pictures = [];
    const waiting = [];
    const sections = found.answers.map((answer, n) =>
      section(answer, asked[n], found.version, waiting),
    );
    $("answers").replaceChildren(...sections);
    await Promise.all([1, 2, 3, 4].map(() => load(waiting))); // four pictures at a time
  } catch (error) {
    say(error.message);
    if (!$("access").hidden) $("token").focus();
  } finally {
    $("go").disabled = false;
  }
}

async function load(waiting) {
  for (let next = waiting.shift(); next; next = waiting.shift()) {
    try {
      const url = URL.createObjectURL(await (await call(next.path)).blob());
      pictures.push(url);
      next.image.src = url;
    } catch (error) {
      next.image.replaceWith(make("div", error.message, "lost"));
    }
  }
}

function section(answer, asked, version, waiting) {
  const result = make("section");
  const query = make("div", "", "query");
  const shown = make("img");
  const url = URL.createObjectURL(asked.file);
  pictures.push(url);
  Object.assign(shown, { src: url, alt: "the query" });
  query.append(figure(shown, make("span", answer.query.modality), asked.file.name));
  const heading = make("h2");
  const words = { true: "here", false: "not here", null: "not known whether here" };
  const style = { true: "here", false: "absent" }[answer.here];
  heading.append(make("b", words[answer.here], style), " ", make("small", reason(answer)));
  const list = make("ol");
  for (const match of answer.matches) {
    const image = make("img");
    image.alt = `match ${match.rank}`;
    waiting.push({ image, path: `v1/images/${version}/${match.row}` });
    const caption = make("span");
    caption.append(make("b", `#${match.rank}`), ` ${score(match)}`);
    const camera = match.camera ? `, cam ${match.camera}` : "";
    const lines = [match.identity, match.modality + camera, time(match.time)];
    const item = make("li", "", match.accepted === false && "refused");
    item.title = match.path;
    item.append(figure(image, caption, ...lines));
    list.append(item);
  }
  const right = make("div");
  right.append(heading, answer.matches.length ? list : make("p", "no image meets the filters"));
  result.append(query, right);
  return result;
}

function reason(answer) {
  if (!answer.matches.length) return "";
  const what = answer.comparable ? "comparable similarity" : "similarity";
  const best = `best ${what} ${answer.best.toFixed(3)}`;
  if (answer.here === null) return `${best}; not calibrated for ${answer.query.modality} queries`;
  const side = answer.here ? "above" : "not above";
  const far = `false alarms: ${+(100 * answer.far).toPrecision(3)} % of searches`;
  const doubt = answer.held_out ? "" : ", not assured: calibrated on people of the training";
  return `${best}, ${side} ${answer.threshold.toFixed(3)} (${far}${doubt})`;
}

function score(match) {
  // what ranks the matches: in a gallery of both modalities the comparable similarity
  return match.comparable === null ? match.similarity.toFixed(3) : match.comparable.toFixed(2);
}

function time(text) {
  return text && `${text.slice(0, 10)} ${text.slice(11).replace(/(\.0+)?Z$/, "")} UTC`;
}

function figure(image, first, ...lines) {
  const result = make("figure");
  const caption = make("figcaption");
  caption.append(first);
  for (const line of lines.filter(Boolean)) caption.append(make("br"), line);
  result.append(image, caption);
  return result;
}

const drop = $("drop");
for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.remove("over");
  });
}
drop.addEventListener("drop", (event) => choose(event.dataTransfer.files));
$("files").addEventListener("change", (event) => {
  choose(event.target.files);
  event.target.value = "";
});
$("search").addEventListener("submit", search);
$("enter").addEventListener("click", () => {
  sessionStorage.setItem(KEY, $("token").value.trim());
  $("token").value = "";
  start();
});
$("token").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault();
  $("enter").click();
});
start();
