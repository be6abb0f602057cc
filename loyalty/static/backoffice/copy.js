// Shows the buttons that copy a value or print the page, which need a script. `data-copy` is the value.

const SECONDS_SHOWN = 3;

async function copied(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // Without https the browser offers only the older way, which copies what is selected.
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  if (!isCopied) throw new Error("The browser did not copy.");
}

async function copy(button) {
  const label = button.textContent;
  try {
    await copied(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not copied: select the text";
  }
  button.focus();
  setTimeout(() => (button.textContent = label), SECONDS_SHOWN * 1000);
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", () => copy(button));
}
for (const button of document.querySelectorAll("[data-print]")) {
  button.hidden = false;
  button.addEventListener("click", () => window.print());
}
