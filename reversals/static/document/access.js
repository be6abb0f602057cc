// Makes up for what the viewer lacks: a dark scheme that follows the system, names of fields, and one control in a place.

const DARK = window.matchMedia("(prefers-color-scheme: dark)");
const NAMES = [
  ["select.examples-select-element", "Example"],
  ["select.content-type, .content-type-wrapper select", "Media type"],
  [".servers select", "Server"],
  ["textarea.body-param__text", "Body of the request"],
  [".parameters select", "Value"],
];
const LEVELS = [
  ["h2.title", "1"],
  ["h3.opblock-tag, .models > h4", "2"],
  [".opblock h4", "3"],
  [".opblock h5", "4"],
];

function follow() {
  document.documentElement.classList.toggle("dark-mode", DARK.matches);
}

function mend() {
  for (const [selector, name] of NAMES) {
    for (const field of document.querySelectorAll(selector)) {
      if (!field.hasAttribute("aria-label")) field.setAttribute("aria-label", name);
    }
  }
  // A link within a button: the button opens the same part.
  for (const link of document.querySelectorAll("button a[href]")) link.removeAttribute("href");
  // What scrolls can be reached by keyboard.
  for (const block of document.querySelectorAll("pre.microlight, .highlight-code pre, .model-box")) block.tabIndex = 0;
  // Headings begin at 1 and skip no level.
  for (const [selector, level] of LEVELS) {
    for (const heading of document.querySelectorAll(selector)) heading.setAttribute("aria-level", level);
  }
  const about = document.querySelector(".information-container");
  about?.setAttribute("role", "region");
  about?.setAttribute("aria-label", "About the API");
}

follow();
DARK.addEventListener("change", follow);
new MutationObserver(mend).observe(document.getElementById("swagger-ui"), { childList: true, subtree: true });
