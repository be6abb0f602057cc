// Moves the focus to the Find box when the user presses "/".
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || isTyping) return;
  const box = document.getElementById("find-name") || document.getElementById("find-anywhere");
  if (!box) return;
  event.preventDefault();
  box.focus();
});
