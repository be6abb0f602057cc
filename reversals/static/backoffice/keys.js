// The keys of the back office. The key "?" shows them. No key works while the user types in a field.
//
// "r" and "a" use the first such link or button, in the chosen row if it has one. A link is followed; a button only gets
// the focus, so that nothing is decided by a slip.

const KEYS = [
  ["/", "Go to Find"],
  ["g h", "Open Home"],
  ["j", "Choose the next row"],
  ["k", "Choose the row before"],
  ["Enter", "Open the chosen row"],
  ["r", "Reverse points of the redemption, or of the chosen row"],
  ["a", "Go to Approve: Enter then approves"],
  ["?", "Show or hide these keys"],
];
const ROWS = "#result_list tbody tr, table.rows tbody tr, [data-row]";
const TARGETS = { a: 'button[name="decision"][value="approve"]', r: 'a[href$="/reverse/"]' };
const SECONDS_FOR_TWO_KEYS = 2;

const HOME = document.currentScript.dataset.home;

let chosen = null;
let goingSince = 0;

function find() {
  const box = document.getElementById("find-name") || document.getElementById("find-anywhere");
  box?.focus();
  box?.select();
}

// Moves the choice by one visible row, and moves the focus to its first link.
function move(step) {
  const rows = Array.from(document.querySelectorAll(ROWS)).filter((row) => row.checkVisibility());
  if (rows.length === 0) return;
  const next = chosen === null ? 0 : rows.indexOf(chosen) + step;
  chosen?.classList.remove("chosen-row");
  chosen = rows[Math.min(Math.max(next, 0), rows.length - 1)];
  chosen.classList.add("chosen-row");
  chosen.scrollIntoView({ block: "nearest" });
  chosen.querySelector("a[href]")?.focus({ preventScroll: true });
}

function use(key) {
  const target = chosen?.querySelector(TARGETS[key]) || document.querySelector(TARGETS[key]);
  if (target?.matches("a")) target.click();
  else target?.focus();
}

function showKeys() {
  let dialog = document.getElementById("keys");
  if (dialog === null) {
    dialog = document.createElement("dialog");
    dialog.id = "keys";
    dialog.setAttribute("aria-labelledby", "keys-title");
    const title = document.createElement("h2");
    title.id = "keys-title";
    title.textContent = "Keys";
    const list = document.createElement("dl");
    for (const [keys, meaning] of KEYS) {
      const row = document.createElement("div");
      const name = document.createElement("dt");
      const key = document.createElement("kbd");
      const text = document.createElement("dd");
      key.textContent = keys;
      text.textContent = meaning;
      name.append(key);
      row.append(name, text);
      list.append(row);
    }
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "Close";
    close.addEventListener("click", () => dialog.close());
    dialog.append(title, list, close);
    document.body.append(dialog);
  }
  if (dialog.open) dialog.close();
  else dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  const isSecond = Date.now() - goingSince < SECONDS_FOR_TWO_KEYS * 1000;
  goingSince = 0;
  if (event.key === "?") showKeys();
  else if (document.querySelector("dialog[open]")) return;
  else if (event.key === "/") find();
  else if (event.key === "g") goingSince = Date.now();
  else if (event.key === "h" && isSecond) window.location.assign(HOME);
  else if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (event.key in TARGETS) use(event.key);
  else return;
  event.preventDefault();
});

// After a miss the name is selected, so that the next name replaces it.
document.querySelector("#find-name[data-select]")?.select();
