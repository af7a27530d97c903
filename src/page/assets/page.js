// What a page can do better with a script; none needs it.
"use strict";
for (const time of document.querySelectorAll("time[datetime]:not(.ago)")) {
  const at = new Date(time.dateTime);
  if (!isNaN(at)) time.textContent = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}
for (const button of document.querySelectorAll("button[data-copy]")) {
  const from = document.getElementById(button.dataset.copy);
  const says = document.createElement("span");
  says.setAttribute("role", "status");
  says.className = "faint";
  button.hidden = false;
  button.after(" ", says);
  button.addEventListener("click", async () => {
    const text = from.value ?? from.textContent;
    try {
      await navigator.clipboard.writeText(text);
      says.textContent = "Copied";
    } catch {
      // Browsers give the clipboard to encrypted pages and to this machine only.
      if (from.select) from.select();
      else getSelection().selectAllChildren(from);
      says.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
    }
  });
}
// What was told once is not told again by a reload.
if (location.search.includes("done=")) {
  const address = new URL(location);
  address.searchParams.delete("done");
  history.replaceState(null, "", address);
}
const custom = document.querySelector('input[name="preset"][value="custom"]');
if (custom) {
  const scopes = custom.form.querySelector("fieldset details");
  custom.form.addEventListener("change", (event) => {
    if (event.target.name === "preset") scopes.open = custom.checked;
    if (event.target.name === "scopes") custom.checked = true;
    if (event.target.name === "date") custom.form.elements.expires.value = "date";
  });
}
