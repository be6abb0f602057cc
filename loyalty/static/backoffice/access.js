// Accessibility fixes for django-unfold's pages: its toggles react only to a click, not to the keyboard, and a screen
// reader would read out its icons, because they are words in an icon font.

const SWITCHES = "[x-on\\:click]:not(button, input, a[href])";
const ICONS = ".material-symbols-outlined";
const NAMES = {
  close: "Close the sidebar",
  computer: "Switch between light and dark",
  dark_mode: "Switch between light and dark",
  dock_to_right: "Show or hide the sidebar",
  light_mode: "Switch between light and dark",
  loyalty: "Home",
  more_vert: "More",
};

// Returns the element that a toggle opens, or null if it opens nothing separate.
function openedBy(element) {
  if (element.closest("#changelist")) return document.getElementById("changelist-filter");
  if (element.closest("#header-inner")) return document.getElementById("nav-sidebar");
  return element.previousElementSibling?.matches("nav") ? element.previousElementSibling : null;
}

// Clicks a toggle and moves the focus into the element that opens. Escape moves the focus back.
function press(element) {
  element.click();
  const opened = openedBy(element);
  if (opened === null) return;
  // Wait until the page has reacted to the click.
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

// Hides an icon from screen readers if its link or button has a name, or gives the link or button a name first.
function silence(icon) {
  const stop = icon.closest("a, button, [role=button]");
  if (stop !== null && stop.textContent.trim() === icon.textContent.trim()) {
    const name = stop.ariaLabel || stop.title || NAMES[icon.textContent.trim()];
    if (!name) return;
    stop.setAttribute("aria-label", name);
  }
  if (stop !== icon) icon.setAttribute("aria-hidden", "true");
}

// Names the areas that scroll, which are all called the same, and empties of header cells, which have no name.
function nameAreas() {
  for (const area of document.querySelectorAll(".simplebar-content-wrapper")) {
    const name = area.closest("#nav-sidebar-apps") ? "Pages" : area.closest("#changelist-filter") ? "Filters" : "Table";
    area.setAttribute("aria-label", name);
  }
  for (const header of document.querySelectorAll("th")) {
    if (header.textContent.trim() !== "" || header.querySelector("input, img")) continue;
    header.innerHTML = '<span class="sr-only">Actions</span>';
  }
}

window.addEventListener("load", nameAreas);
document.addEventListener("DOMContentLoaded", () => {
  document.getElementById("changelist-filter-close")?.setAttribute("title", "Close the filters");
  document.querySelectorAll(SWITCHES).forEach(makeButton);
  document.querySelectorAll(ICONS).forEach(silence);
  if (document.querySelector("main") !== null) return;
  const main = document.getElementById("main") || document.getElementById("page");
  main?.setAttribute("role", "main");
});
