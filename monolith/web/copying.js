// @ts-check
// Buttons that copy what a field holds: `data-copies` is the field's id.

const TOLD_MS = 2000;

/** @param {ParentNode} root */
export function copyOnClick(root) {
  for (const button of root.querySelectorAll("button[data-copies]")) {
    button.addEventListener("click", () => void copy(/** @type {HTMLButtonElement} */ (button)));
  }
}

/** @param {HTMLButtonElement} button */
async function copy(button) {
  const field = /** @type {HTMLInputElement} */ (document.getElementById(button.dataset.copies ?? ""));
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Press Ctrl+C"; // no clipboard without HTTPS; the field is selected
  }
  setTimeout(() => (button.textContent = "Copy"), TOLD_MS);
}
