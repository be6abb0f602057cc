// Shows the progress of a bulk run or a ledger check, and loads the page again when the worker has stopped.

const section = document.querySelector("section[data-progress]");
const bar = document.getElementById("progress");
const text = document.getElementById("progress-text");
const notice = document.getElementById("progress-notice");
const MILLISECONDS = 1000;

function show(progress) {
  const share = progress.all ? Math.floor((100 * progress.done) / progress.all) : 100;
  bar.setAttribute("aria-valuenow", progress.done);
  bar.setAttribute("aria-valuemax", progress.all);
  bar.setAttribute("aria-valuetext", `${progress.done} of ${progress.all} done`);
  bar.firstElementChild.style.width = `${share}%`;
  const done = `${progress.done} of ${progress.all} done`;
  if (text.textContent !== done) text.textContent = done;
  if (notice.textContent !== progress.notice) notice.textContent = progress.notice;
  notice.hidden = !progress.notice;
}

async function follow() {
  try {
    const response = await fetch(section.dataset.progress, { headers: { Accept: "application/json" } });
    // If the session has ended, the reply is the sign-in page.
    if (!response.ok || !response.headers.get("Content-Type").startsWith("application/json")) {
      throw new Error("The reply is not the progress of the run.");
    }
    const progress = await response.json();
    show(progress);
    if (!progress.working) {
      window.location.reload();
      return;
    }
  } catch {
    notice.textContent = "The progress cannot be read now. The run goes on without this page. Reload the page later.";
    notice.hidden = false;
  }
  setTimeout(follow, MILLISECONDS);
}

if (section) setTimeout(follow, MILLISECONDS);
