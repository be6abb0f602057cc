// "/" goes to the box that finds; on a list it goes to the list's own box, as django-unfold has it.
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || isTyping) return;
  const box = document.getElementById("find-name") || document.getElementById("find-anywhere");
  if (!box || document.getElementById("searchbar")) return;
  event.preventDefault();
  box.focus();
});
