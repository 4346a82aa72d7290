"use strict";
// The page of `serve`: CartPole-v1 simulated here and moved by the served policy; for other environments, a form.

const element = (id) => document.getElementById(id);
const sleep = (milliseconds) => new Promise((wake) => setTimeout(wake, milliseconds));
const PAST = 150; // values in the curve
const TAKEN = 50; // latencies in the median

// ---- the server

async function fetched(path, question) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(question) };
  const response = await fetch(path, question && options).catch(() => {
    throw new Error("The server does not answer.");
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

const latencies = [];

let session; // of a recurrent policy: the episode that goes on

async function ask(observation) {
  const began = performance.now();
  const asked = session;
  const answer = await fetched("act", asked ? { observation, session: asked } : { observation });
  if (asked === session) session = answer.session;
  latencies.push(performance.now() - began);
  if (latencies.length > TAKEN) latencies.shift();
  return answer;
}

/** Do something that asks the server; where that fails, say so. Whether it went well. */
async function told(action) {
  try {
    await action();
    element("trouble").hidden = true;
    return true;
  } catch (error) {
    element("trouble").textContent = error.message;
    element("trouble").hidden = false;
    return false;
  }
}

// ---- spaces: their parts in the order in which the network has their numbers

const KINDS = ["Box", "Discrete", "MultiDiscrete", "MultiBinary", "Dict", "Tuple"]; // others are not seen by a policy
const MASK = "action_mask"; // which comes last

function parts(space) {
  if (space.space !== "Dict" && space.space !== "Tuple") return null;
  const known = Object.entries(space.spaces).filter(([, own]) => KINDS.includes(own.space));
  return known.sort(([a, one], [b, other]) => (a === MASK) - (b === MASK) || isImage(one) - isImage(other));
}

const LONG = 16; // a Box with two sides of at least so many is an image
const isImage = ({ space, dtype, shape }) =>
  space === "Box" && shape.length >= (dtype === "uint8" ? 2 : 3) && shape.filter((side) => side >= LONG).length >= 2;

/** The leaves of a space as {name, space}; of a MultiDiscrete, each of its numbers. */
function leaves(space, name = "") {
  const inner = parts(space);
  if (inner) return inner.flatMap(([part, own]) => leaves(own, name ? `${name}.${part}` : part));
  if (space.space !== "MultiDiscrete") return [{ name, space }];
  const counts = [space.nvec].flat(Infinity), starts = [space.start].flat(Infinity);
  return counts.map((n, i) => ({ name: `${name}[${i}]`, space: { space: "Discrete", n, start: starts[i] } }));
}

const shapeOf = (space) => space.shape ?? [space.n].flat();
const product = (shape) => shape.reduce((a, b) => a * b, 1);

/** How many numbers of JSON a leaf has, and for how many the network's range is known. */
const sizeOf = (leaf) => (leaf.space.space === "Discrete" ? 1 : product(shapeOf(leaf.space)));
const widthOf = (leaf) => (leaf.space.space === "Discrete" ? leaf.space.n : isImage(leaf.space) ? 0 : sizeOf(leaf));

const namesOf = (leaf) => Array.from({ length: sizeOf(leaf) }, (_, i) => (leaf.name ? `${leaf.name}[${i}]` : `${i}`));

/** All numbers of an action or observation, in order. */
function flat(space, value) {
  const inner = parts(space);
  return inner ? inner.flatMap(([part, own]) => flat(own, value[part])) : [value].flat(Infinity);
}

/** The observation of a space, from its numbers in order, which are taken out. */
function built(space, numbers) {
  const inner = parts(space);
  if (inner) {
    const made = inner.map(([part, own]) => [part, built(own, numbers)]);
    return space.space === "Dict" ? Object.fromEntries(made) : made.map(([, own]) => own);
  }
  if (space.space === "Discrete") return numbers.shift();
  const like = (known) => (Array.isArray(known) ? known.map(like) : numbers.shift());
  const filled = ([size, ...rest]) => (size === undefined ? numbers.shift() : Array.from({ length: size }, () => filled(rest)));
  return space.space === "MultiDiscrete" ? like(space.nvec) : filled(shapeOf(space));
}

// ---- what it answered

const values = [];

/**
 * The rows of an action's distribution: the number it begins at in the distribution, which number of the action it is
 * about, and the value of that which it is the probability of; of a real number, how far its deviation is behind.
 */
function choices(space) {
  const rows = [];
  let at = 0, action = 0;
  for (const leaf of leaves(space)) {
    const { space: kind, n, start } = leaf.space;
    const prefix = leaf.name ? `${leaf.name} = ` : "action ";
    if (kind === "Discrete") for (let i = 0; i < n; i++) rows.push({ name: prefix + (start + i), at: at + i, action, means: start + i });
    else
      namesOf(leaf).forEach((name, i) => {
        const about = kind === "Box" ? { deviation: sizeOf(leaf) } : { means: 1 };
        rows.push({ name, at: at + i, action: action + i, ...about });
      });
    at += kind === "Box" ? 2 * sizeOf(leaf) : widthOf(leaf);
    action += sizeOf(leaf);
  }
  return rows;
}

function showChoices(space, names) {
  element("choices").replaceChildren(
    ...choices(space).map(({ name }, index) => {
      const row = document.createElement("div");
      row.className = "choice";
      row.innerHTML = '<span></span><div class="track"><div class="bar"></div></div><output>–</output>';
      row.firstChild.textContent = names?.[index] ?? name;
      return row;
    }),
  );
}

function show(answer, space) {
  const taken = flat(space, answer.action), numbers = answer.probabilities ?? answer.distribution;
  choices(space).forEach(({ at, action, means, deviation }, index) => {
    const row = element("choices").children[index], share = numbers[at];
    row.classList.toggle("chosen", deviation !== undefined || taken[action] === means);
    row.querySelector(".track").hidden = deviation !== undefined;
    row.querySelector(".bar").style.width = `${100 * share}%`;
    row.lastChild.textContent =
      deviation === undefined ? `${(100 * share).toFixed(1)} %` : `${taken[action].toFixed(2)} ± ${numbers[at + deviation].toFixed(2)}`;
  });
  const sorted = [...latencies].sort((a, b) => a - b);
  element("latency").textContent = `${sorted[sorted.length >> 1].toFixed(1)} ms`;
  if (answer.value !== undefined) showValue(answer.value);
}

function showValue(value) {
  values.push(value);
  if (values.length > PAST) values.shift();
  element("value").textContent = value.toFixed(1);
  const low = Math.min(...values), span = Math.max(...values) - low || 1;
  const points = values.map((one, index) => `${(100 * index) / (PAST - 1)},${28 - (26 * (one - low)) / span}`);
  element("past").setAttribute("points", points.join(" "));
}

// ---- CartPole, as Gymnasium has it: state is [position, velocity, angle, angular velocity]

const TAU = 0.02; // seconds of a step
const FORCE = 10; // newtons
const PUSH = 40; // newtons of a push by hand, for one step
const EDGE = 2.4; // metres
const LEAN = (12 * 2 * Math.PI) / 360; // radians

function stepped([position, velocity, angle, spin], force) {
  const gravity = 9.8, pole = 0.1, total = 1.1, half = 0.5; // kg, and metres from the hinge to the pole's middle
  const cosine = Math.cos(angle), sine = Math.sin(angle);
  const inner = (force + pole * half * spin * spin * sine) / total;
  const turn = (gravity * sine - cosine * inner) / (half * (4 / 3 - (pole * cosine * cosine) / total));
  const push = inner - (pole * half * turn * cosine) / total;
  return [position + TAU * velocity, velocity + TAU * push, angle + TAU * spin, spin + TAU * turn];
}

const ended = ([position, , angle]) => Math.abs(position) > EDGE || Math.abs(angle) > LEAN;
const beginning = () => Array.from({ length: 4 }, () => 0.1 * Math.random() - 0.05);

const game = { state: beginning(), steps: 0, episodes: 0, best: 0, push: 0, force: 0, paused: false, over: false };

function begin() {
  session = undefined;
  Object.assign(game, { state: beginning(), steps: 0, push: 0, force: 0, over: false });
  element("news").textContent = "";
}

async function turn(model) {
  const state = game.state;
  const answer = await ask(state);
  if (state !== game.state || game.paused) return; // begun anew, or stopped, while the server thought
  const force = answer.action === 1 ? FORCE : -FORCE;
  Object.assign(game, { state: stepped(state, force + game.push), steps: game.steps + 1, force, push: 0 });
  show(answer, model.action_space);
  const last = model.max_episode_steps !== null && game.steps >= model.max_episode_steps;
  if (ended(game.state) || last) finish(ended(game.state));
}

function finish(fallen) {
  game.over = true;
  game.episodes += 1;
  game.best = Math.max(game.best, game.steps);
  element("episodes").textContent = `${game.episodes}, ${game.best}`;
  const why = Math.abs(game.state[0]) > EDGE ? "The cart left the track" : "The pole fell";
  element("news").textContent = fallen ? `${why} after ${game.steps} steps.` : `All ${game.steps} steps: the episode's limit.`;
}

async function play(model) {
  for (;;) {
    const began = performance.now();
    if (game.over) {
      const state = game.state;
      await sleep(1200);
      if (game.over && state === game.state) begin();
    } else if (!game.paused && !document.hidden) {
      if (!(await told(() => turn(model)))) await sleep(1000);
      element("steps").textContent = model.max_episode_steps ? `${game.steps} of ${model.max_episode_steps}` : game.steps;
    }
    await sleep(Math.max(0, 1000 * TAU - (performance.now() - began)));
  }
}

// ---- its picture

function draw() {
  const canvas = element("scene"), pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name);
  const dots = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * dots)) [canvas.width, canvas.height] = [width * dots, height * dots];
  const metre = width / (2 * EDGE + 0.7), ground = 0.8 * height;
  pen.setTransform(dots, 0, 0, dots, 0, 0);
  pen.clearRect(0, 0, width, height);
  drawTrack(pen, width, ground, metre, color);
  drawCart(pen, width / 2 + game.state[0] * metre, ground, metre, color);
  requestAnimationFrame(draw);
}

function drawTrack(pen, width, ground, metre, color) {
  pen.strokeStyle = color("--line");
  pen.lineWidth = 2;
  pen.beginPath();
  pen.moveTo(0, ground);
  pen.lineTo(width, ground);
  for (const end of [-EDGE, 0, EDGE]) {
    pen.moveTo(width / 2 + end * metre, ground);
    pen.lineTo(width / 2 + end * metre, ground + 0.12 * metre);
  }
  pen.stroke();
}

function drawCart(pen, x, ground, metre, color) {
  const wide = 0.5 * metre, high = 0.26 * metre, wheel = 0.07 * metre, hinge = ground - wheel - high;
  pen.fillStyle = color("--cart");
  pen.beginPath();
  pen.roundRect(x - wide / 2, hinge, wide, high, 0.06 * metre);
  for (const side of [-0.3, 0.3]) {
    pen.moveTo(x + side * wide + wheel, ground - wheel);
    pen.arc(x + side * wide, ground - wheel, wheel, 0, 2 * Math.PI);
  }
  pen.fill();
  drawForce(pen, x, hinge + high / 2, wide, metre, color);
  pen.strokeStyle = color("--pole");
  pen.lineWidth = 0.1 * metre;
  pen.lineCap = "round";
  pen.beginPath();
  pen.moveTo(x, hinge);
  pen.lineTo(x + Math.sin(game.state[2]) * metre, hinge - Math.cos(game.state[2]) * metre);
  pen.stroke();
  pen.fillStyle = color("--card");
  pen.beginPath();
  pen.arc(x, hinge, 0.035 * metre, 0, 2 * Math.PI);
  pen.fill();
}

/** The action as an arrow at the side that is pulled. */
function drawForce(pen, x, y, wide, metre, color) {
  if (!game.force) return;
  const side = Math.sign(game.force), tail = x + side * (wide / 2 + 0.06 * metre), head = tail + side * 0.3 * metre;
  pen.strokeStyle = color("--accent");
  pen.lineWidth = 2.5;
  pen.beginPath();
  pen.moveTo(tail, y);
  pen.lineTo(head, y);
  pen.moveTo(head - side * 6, y - 5);
  pen.lineTo(head, y);
  pen.lineTo(head - side * 6, y + 5);
  pen.stroke();
}

// ---- by hand

function pause(paused) {
  game.paused = paused;
  element("pause").textContent = paused ? "Go on" : "Pause";
}

function startCartPole(model) {
  element("cartpole").hidden = false;
  showChoices(model.action_space, ["← left", "right →"]);
  element("pause").onclick = () => pause(!game.paused);
  element("restart").onclick = begin;
  element("push-left").onclick = () => (game.push = -PUSH);
  element("push-right").onclick = () => (game.push = PUSH);
  const keys = { " ": "pause", r: "restart", ArrowLeft: "push-left", ArrowRight: "push-right" };
  document.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || (event.key === " " && event.target.closest("button"))) return;
    event.preventDefault();
    element(keys[event.key]).click();
  });
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) pause(true);
  requestAnimationFrame(draw);
  play(model);
}

// ---- any other environment: a control for each part

function startForm(model) {
  element("numbers").hidden = false;
  document.querySelectorAll(".game").forEach((part) => (part.hidden = true));
  showChoices(model.action_space);
  let end = 0; // of the numbers of the network so far
  const controls = leaves(model.observation_space).flatMap((leaf) => {
    const first = end;
    end += widthOf(leaf);
    return controlsOf(leaf, model.lowest.slice(first, end), model.highest.slice(first, end));
  });
  const numbers = () => controls.map((control) => control.value());
  const answer = () =>
    told(async () => {
      session = undefined; // what is typed is the first observation of an episode
      show(await ask(built(model.observation_space, numbers())), model.action_space);
    });
  element("range").textContent = "Beside the name of each number: the range that was seen when the policy was exported.";
  element("form").oninput = () => numbers().every(Number.isFinite) && answer();
  element("form").onsubmit = (event) => event.preventDefault();
  element("random").onclick = () => {
    controls.forEach((control) => control.draw());
    answer();
  };
  answer();
}

/** Controls of a leaf as {value, draw}: a field for each number, a box for each switch. */
function controlsOf(leaf, lowest, highest) {
  const { space: kind, n, start, dtype } = leaf.space;
  if (kind === "Discrete") return [numberControl(leaf.name || "state", start, start + n - 1, true)];
  if (kind === "MultiBinary") return namesOf(leaf).map(switchControl);
  if (isImage(leaf.space)) return imageControls(leaf);
  const whole = !dtype.startsWith("float");
  return namesOf(leaf).map((name, index) => numberControl(name, lowest[index], highest[index], whole));
}

/** An image is drawn at random; a control for each of its numbers, none of which is shown. */
function imageControls(leaf) {
  const { low, high, shape, dtype } = leaf.space, note = document.createElement("p");
  note.textContent = `${leaf.name || "image"}: ${shape.join(" x ")}, drawn at random`;
  element("form").append(note);
  const [lowest, highest] = [low, high].map((bound) => [bound].flat(Infinity)[0]);
  const drawn = () => lowest + Math.random() * (highest - lowest);
  return Array.from({ length: sizeOf(leaf) }, () => {
    let number = lowest;
    return { value: () => number, draw: () => (number = dtype.startsWith("float") ? drawn() : Math.round(drawn())) };
  });
}

function labelled(name, input) {
  const label = document.createElement("label");
  label.append(name, input);
  element("form").append(label);
  return input;
}

function numberControl(name, lowest, highest, whole) {
  const text = (number) => (whole ? `${Math.round(number)}` : number.toPrecision(4));
  const shown = whole ? String : (number) => number.toPrecision(3);
  const input = labelled(`${name}: ${shown(lowest)} to ${shown(highest)}`, document.createElement("input"));
  Object.assign(input, { type: "number", step: whole ? 1 : "any", value: text((lowest + highest) / 2) });
  return {
    value: () => input.valueAsNumber,
    draw: () => (input.value = text(lowest + Math.random() * (highest - lowest))),
  };
}

function switchControl(name) {
  const input = labelled(name, Object.assign(document.createElement("input"), { type: "checkbox", checked: true }));
  return { value: () => Number(input.checked), draw: () => (input.checked = Math.random() < 0.5) };
}

async function start() {
  const { model } = await fetched("healthz");
  document.title = element("title").textContent = model.env_id;
  const learned = model.updates === null ? "" : `, ${model.updates.toLocaleString("en")} updates`;
  element("model").textContent = `${model.precision}, checkpoint ${model.checkpoint_sha256.slice(0, 12)}${learned}`;
  element("critic").hidden = !model.critic;
  const cartPole = model.env_id === "CartPole-v1" && shapeOf(model.observation_space).join() === "4" && model.action_space.n === 2;
  (cartPole ? startCartPole : startForm)(model);
}

(async () => {
  while (!(await told(start))) await sleep(1000);
})();
