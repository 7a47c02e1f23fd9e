// The live page: polls the demo every second for newer data, and passes it to the parts of the page.

import { Charts } from "./charts.js";
import { Events } from "./events.js";
import { History } from "./history.js";
import { showState } from "./state.js";
import { Table } from "./table.js";
import { You } from "./you.js";
import { say } from "./words.js";

const EVERY = 1000;

const history = new History();
const charts = new Charts(history);
const table = new Table(history);
const events = new Events();
const you = new You();
let paused = false;

async function look() {
  const answer = await fetch(`/api/live?since=${history.since}&event=${history.event}`);
  if (!answer.ok) throw new Error(answer.status);
  const facts = await answer.json();
  if (history.run !== null && facts.run !== history.run) events.clear();
  history.add(facts);
  events.add(facts.events);
  showState(facts);
  you.know(facts);
  if (history.points.length) {
    charts.update();
    table.update();
  }
}

async function follow() {
  if (!paused) await look().catch(() => say("word", "the demo does not answer"));
  setTimeout(follow, EVERY);
}

document.getElementById("pause").addEventListener("click", ({ target }) => {
  paused = you.paused = !paused;
  target.setAttribute("aria-pressed", String(paused));
});

follow();
