// @ts-check
// Changes an API key for a session cookie, then goes on to where the user wanted to be. The key is kept nowhere.

const form = /** @type {HTMLFormElement} */ (document.getElementById("form"));
const input = /** @type {HTMLInputElement} */ (document.getElementById("key"));
const message = /** @type {HTMLElement} */ (document.getElementById("message"));

/** Where to go on: a path of this server, nothing else. */
function next() {
  const wanted = new URL(new URLSearchParams(location.search).get("next") ?? "/", location.origin);
  return wanted.origin === location.origin ? wanted.pathname + wanted.search : "/";
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  message.textContent = "…";
  try {
    const answer = await fetch("/session", { method: "POST", headers: { "X-API-Key": input.value.trim() } });
    if (answer.ok) {
      location.replace(next());
      return;
    }
    message.textContent = (await answer.json()).detail;
  } catch (error) {
    message.textContent = `The server did not answer: ${error}`;
  }
  input.select();
});
