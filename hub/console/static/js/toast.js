// Short messages at the foot of the page, said aloud by screen readers, with an undo where there is one.

function area() {
  let box = document.querySelector(".toasts");
  if (!box) {
    box = document.createElement("div");
    box.className = "toasts";
    box.setAttribute("role", "status");
    document.body.append(box);
  }
  return box;
}

/** Say `text`; `wrong` marks a refusal; `action` is `{label, run}`. Stays longer when there is something to do or to read. */
export function say(text, { wrong = false, action = null } = {}) {
  const note = document.createElement("div");
  note.className = wrong ? "toast wrong" : "toast";
  const words = document.createElement("span");
  words.textContent = text;
  note.append(words);
  const close = () => note.remove();
  if (action) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = action.label;
    button.onclick = () => {
      close();
      action.run();
    };
    note.append(button);
  }
  if (wrong) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Dismiss";
    button.onclick = close;
    note.append(button);
  }
  const box = area();
  while (box.children.length > 2) box.firstElementChild.remove();
  box.append(note);
  setTimeout(close, wrong ? 20_000 : action ? 9_000 : 5_000);
}
