"use strict";
// Texts are set as text alone: nothing that data, a model or an API wrote can become markup.

const PAGE = 25; // rows that are drawn at a time
const $ = (id) => document.getElementById(id);

function element(tag, name, ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children);
  return made;
}

// A text of unknown direction; what is empty is said to be
function words(tag, name, text) {
  const made = element(tag, text ? name : `${name} empty`, text || "(nothing)");
  made.dir = "auto";
  return made;
}

// Charts of one metric at a time

for (const radio of document.querySelectorAll('input[name="metric"]')) {
  const show = () => {
    if (!radio.checked) return;
    for (const part of document.querySelectorAll("[data-metric]")) part.hidden = part.dataset.metric !== radio.value;
  };
  radio.addEventListener("change", show);
  show();
}

// What a chart's mark stands for, beside the pointer

const tip = element("div");
tip.id = "tip";
tip.hidden = true;
tip.dir = "auto";
document.body.append(tip);
document.addEventListener("pointermove", (event) => {
  const mark = event.target.closest?.("svg.marks [aria-label]:not([role=graphics-object])");
  tip.hidden = !mark || ["axis", "legend"].includes(mark.getAttribute("aria-roledescription"));
  if (tip.hidden) return;
  tip.textContent = mark.getAttribute("aria-label");
  const left = Math.min(event.clientX + 14, document.documentElement.clientWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(4, left) + scrollX}px`;
  tip.style.top = `${event.clientY + 16 + scrollY}px`;
});

// The answers

const { stages, metrics, tasks, prompts, texts, rows } = JSON.parse($("answers-data")?.textContent || '{"rows":[]}');
const LAST = rows.length ? stages.length - 1 : 0;
const lower = rows.length ? texts.map((text) => text.toLowerCase()) : [];
// Where an answer has its scores: [text, score of the first metric, ...]
const column = (name) => 1 + (metrics || []).findIndex((metric) => metric.name === name);
const ROUGE = column("rouge_l"), EXACT = column("exact_match"), LIKELIHOOD = column("log_likelihood");
const GOOD = { forgotten: "bad", kept: "good", "learned later": "good", "never learned": "bad" };
let found = [], start = 0;

const scoreOf = (task, answer) => answer[task.labels ? EXACT : ROUGE];
const shown = (value, metric) => value.toFixed(metrics[metric - 1].decimals);

// How much of its score a row has lost since its task was trained
function fall([number, , , , , answers]) {
  const task = tasks[number];
  return task.trained === null ? -Infinity : scoreOf(task, answers[task.trained]) - scoreOf(task, answers[LAST]);
}

function filter() {
  const state = document.querySelector('input[name="state"]:checked').value;
  const task = $("task").value, wanted = $("search").value.trim().toLowerCase();
  const hits = lower.map((text) => text.includes(wanted));
  const counts = { "": 0 };
  found = rows.filter((row) => {
    const [number, , is, text, references, answers] = row;
    if (task !== "" && number !== Number(task)) return false;
    if (wanted && !hits[text] && !references.some((n) => hits[n]) && !answers.some(([n]) => hits[n])) return false;
    counts[""] += 1;
    counts[is] = (counts[is] || 0) + 1;
    return state === "" || state === is;
  });
  if ($("order").value === "fall") found.sort((a, b) => fall(b) - fall(a));
  for (const count of document.querySelectorAll("[data-count]")) count.textContent = counts[count.dataset.count] || 0;
  start = 0;
  draw();
}

function draw() {
  const end = Math.min(start + PAGE, found.length);
  $("rows").replaceChildren(...found.slice(start, end).map(card));
  $("shown").textContent = found.length ? `rows ${start + 1} to ${end} of ${found.length}` : "no row has this";
  $("previous").disabled = start === 0;
  $("next").disabled = end === found.length;
}

function card([number, row, state, text, references, answers]) {
  const task = tasks[number];
  const about = element("div", "about", element("b", "", task.name), `test row ${row}`, element("span", `state ${GOOD[state] || ""}`, state));
  const right = element("div", "about", "right answer:");
  references.forEach((n) => right.append(words("b", "given", texts[n])));
  const more = element("details", "", element("summary", "", "whole text, prompt, all scores"));
  const made = element("li", "", about, words("p", "text", texts[text]), right, element("ol", "answers", ...answers.map((answer, stage) => given(task, answer, stage, answers[task.trained]))), more);
  more.addEventListener("toggle", () => {
    made.classList.toggle("open", more.open);
    if (more.open && more.children.length === 1) more.append(...whole(task, text, answers));
  });
  return made;
}

// Of free text only what became of a trained task's answer is good or bad
function kindOf(task, stage, score, had) {
  if (task.labels) return score > 0 ? "good" : "bad";
  if (task.trained === null || stage < task.trained) return "";
  return score > scoreOf(task, had) / 2 ? "good" : "bad";
}

function given(task, answer, stage, had) {
  const score = scoreOf(task, answer);
  const name = element("span", "stage", element("b", "", stages[stage]));
  if (stage === task.trained) name.append(" (trained here)");
  const verdict = task.labels ? (score > 0 ? "\u2713 right" : "\u2717 wrong") : `ROUGE-L ${shown(score, ROUGE)}`;
  const likelihood = `log-likelihood ${shown(answer[LIKELIHOOD], LIKELIHOOD)}`;
  const scores = element("span", "score", element("span", "verdict", verdict), element("span", "", likelihood));
  return element("li", kindOf(task, stage, score, had), name, words("span", "given", texts[answer[0]]), scores);
}

// All prompts of a row, each with its stages, and all scores
function whole(task, text, answers) {
  const made = [];
  for (const prompt of new Set(task.prompts)) {
    const asked = stages.filter((_, stage) => task.prompts[stage] === prompt);
    made.push(element("p", "note", `prompt after ${asked.join(", ")}`));
    made.push(words("div", "prompt", prompts[prompt][0] + texts[text] + prompts[prompt][1]));
  }
  const head = element("tr", "", element("th", "", "model after"), ...metrics.map((metric) => element("th", "number", `${metric.title} (${metric.unit})`)));
  const lines = answers.map((answer, stage) => element("tr", "", element("th", "", stages[stage]), ...metrics.map((_, n) => element("td", "number", shown(answer[n + 1], n + 1)))));
  const table = element("div", "wide", element("table", "", element("thead", "", head), element("tbody", "", ...lines)));
  table.tabIndex = 0;
  return [...made, table];
}

function turn(by) {
  start += by;
  draw();
  $("answers").scrollIntoView();
}

if (rows.length) {
  for (const control of document.querySelectorAll('input[name="state"], #task, #order')) control.addEventListener("change", filter);
  $("search").addEventListener("input", filter);
  $("previous").addEventListener("click", () => turn(-PAGE));
  $("next").addEventListener("click", () => turn(PAGE));
  filter();
}
