// What django-unfold's pages lack for people without a mouse or without sight: its own switches wait for a click
// alone, and its icons are words of a font, which would be read out.

const SWITCHES = "[x-on\\:click]:not(button, input, a[href])";
const ICONS = ".material-symbols-outlined";
const NAMES = {
  close: "Close the side bar",
  computer: "Light or dark",
  dark_mode: "Light or dark",
  dock_to_right: "Show or hide the side bar",
  light_mode: "Light or dark",
  loyalty: "Home",
  more_vert: "More",
};

// The part of the page that a switch opens, if it is one that stands apart.
function openedBy(element) {
  if (element.closest("#changelist")) return document.getElementById("changelist-filter");
  if (element.closest("#header-inner")) return document.getElementById("nav-sidebar");
  return element.previousElementSibling?.matches("nav") ? element.previousElementSibling : null;
}

// Leads the focus into what opens, and back once Escape has closed it.
function press(element) {
  element.click();
  const opened = openedBy(element);
  if (opened === null) return;
  // Once the page has followed the click.
  setTimeout(() => {
    const stops = Array.from(opened.querySelectorAll("a, button, input"));
    stops.find((each) => each.checkVisibility())?.focus();
  }, 50);
  opened.addEventListener("keydown", (event) => {
    if (event.key === "Escape") element.focus();
  });
}

function makeButton(element) {
  element.setAttribute("role", "button");
  element.tabIndex = 0;
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    press(element);
  });
}

// An icon is left out where its link or button has a name beside it, or can be given one.
function silence(icon) {
  const stop = icon.closest("a, button, [role=button]");
  if (stop !== null && stop.textContent.trim() === icon.textContent.trim()) {
    const name = stop.ariaLabel || stop.title || NAMES[icon.textContent.trim()];
    if (!name) return;
    stop.setAttribute("aria-label", name);
  }
  if (stop !== icon) icon.setAttribute("aria-hidden", "true");
}

document.addEventListener("DOMContentLoaded", () => {
  document.getElementById("changelist-filter-close")?.setAttribute("title", "Close the filters");
  document.querySelectorAll(SWITCHES).forEach(makeButton);
  document.querySelectorAll(ICONS).forEach(silence);
  document.getElementById("main")?.setAttribute("role", "main");
});
