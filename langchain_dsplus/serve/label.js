"use strict";
// Texts of users and models reach the page by textContent alone: nothing in them is ever markup.
const at = (id) => document.getElementById(id);
const token = decodeURIComponent(location.hash.slice(1));
const person = sessionStorage.person || (sessionStorage.person = crypto.getRandomValues(new Uint32Array(4)).join("-"));
let row = null, keys = [], busy = false;

async function ask(what, more) {
  if (busy) return;
  busy = true;
  try {
    const reply = await fetch("api/" + what, {
      method: "POST",
      headers: { "content-type": "application/json", "x-dsplus-token": token },
      body: JSON.stringify({ person, ...more }),
    });
    const said = await reply.json();
    if (!reply.ok) throw new Error(typeof said.detail === "string" ? said.detail : "the server answered " + reply.status);
    show(said);
  } catch (error) {
    tell(error instanceof TypeError ? "The server cannot be reached: nothing was written down." : error.message);
  } finally {
    busy = false;
  }
}

function tell(text) {
  at("message").textContent = text;
  at("message").hidden = !text;
}

function say(label) {
  if (row) ask("say", { id: row.id, label });
}

function show(said) {
  row = said.row;
  tell(said.message);
  const { mine, told, left } = said.progress;
  at("progress").textContent = `${told} labelled here, ${mine} by you; ${left} left`;
  at("bar").max = Math.max(1, told + left);
  at("bar").value = told;
  at("card").hidden = !row;
  at("done").hidden = Boolean(row);
  at("skip").disabled = !row;
  at("undo").disabled = !mine;
  if (!row) return;
  at("needed").hidden = !row.needed;
  at("input").textContent = row.input;
  at("input").scrollTop = 0;
  const others = said.labels.filter((label) => !row.choices.includes(label));
  keys = [...row.choices, ...others].slice(0, 9);
  at("choices").replaceChildren(...keys.map((label, place) => {
    const item = document.createElement("li"), button = document.createElement("button"), key = document.createElement("kbd");
    key.textContent = place + 1;
    button.type = "button";
    button.append(key, label);
    button.addEventListener("click", () => say(label));
    if (row.choices.includes(label)) item.className = "asked";
    item.append(button);
    return item;
  }));
  const rest = others.filter((label) => !keys.includes(label));
  at("more").hidden = !rest.length;
  at("others").replaceChildren(new Option("choose", ""), ...rest.map((label) => new Option(label, label)));
}

at("skip").addEventListener("click", () => say(null));
at("undo").addEventListener("click", () => ask("undo"));
at("others").addEventListener("change", (event) => event.target.value && say(event.target.value));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.tagName === "SELECT") return;
  if (event.key.toLowerCase() === "u") ask("undo");
  else if (event.key === "0") say(null);
  else if (event.key >= "1" && event.key <= "9" && keys[event.key - 1] !== undefined) say(keys[event.key - 1]);
});
ask("next");
