// Runs the steps of a bulk run: submits the form of its page until the run is finished, and shows the progress.

const form = document.querySelector("form[data-steps]");
const bar = document.getElementById("progress");
const text = document.getElementById("progress-text");
const title = document.getElementById("progress-title");
const notice = document.getElementById("progress-notice");

function show(step) {
  const share = step.all ? Math.floor((100 * step.done) / step.all) : 100;
  bar.setAttribute("aria-valuenow", step.done);
  bar.setAttribute("aria-valuemax", step.all);
  bar.setAttribute("aria-valuetext", `${step.done} of ${step.all} done`);
  bar.firstElementChild.style.width = `${share}%`;
  text.textContent = `${step.done} of ${step.all} done`;
}

async function takeStep() {
  const response = await fetch(form.action, {
    method: "POST",
    body: new FormData(form),
    headers: { Accept: "application/json" },
  });
  // If the session has ended, the reply is the sign-in page.
  if (!response.ok || !response.headers.get("Content-Type").startsWith("application/json")) {
    throw new Error("The reply is not a step of the run.");
  }
  return response.json();
}

function setBusy(isBusy) {
  const button = form.querySelector("button");
  button.disabled = isBusy;
  button.classList.toggle("opacity-50", isBusy);
}

async function runSteps() {
  setBusy(true);
  title.textContent = form.dataset.titleAtWork;
  notice.hidden = true;
  try {
    let step;
    do {
      step = await takeStep();
      show(step);
    } while (!step.finished && !step.notice);
    if (step.finished) {
      window.location.reload();
      return;
    }
    notice.textContent = step.notice;
  } catch {
    notice.textContent = "The server sent an unexpected reply. Finished rows are saved. Reload the page, then continue.";
  }
  notice.hidden = false;
  setBusy(false);
}

if (form) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    runSteps();
  });
  if (form.dataset.steps === "on-load") runSteps();
}
