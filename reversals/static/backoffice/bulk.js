// Works off a bulk run: sends the form of its page again and again, and shows how far the run has come.

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
  // A lapsed session is answered with the sign-in page.
  if (!response.ok || !response.headers.get("Content-Type").startsWith("application/json")) {
    throw new Error("no step");
  }
  return response.json();
}

function setBusy(isBusy) {
  const button = form.querySelector("button");
  button.disabled = isBusy;
  button.classList.toggle("opacity-50", isBusy);
}

async function workOff() {
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
    notice.textContent = "The server did not answer as expected. Nothing is lost: reload the page and go on.";
  }
  notice.hidden = false;
  setBusy(false);
}

if (form) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    workOff();
  });
  if (form.dataset.steps === "at-once") workOff();
}
