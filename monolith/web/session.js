// @ts-check
// Whose key the page works with, and the way to sign in and out. Shows nothing where the server asks for no keys.

/** To the sign-in page, and back here afterwards. */
export function signIn() {
  location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
}

/** @param {HTMLElement} place filled with the key's name and a button to sign out */
export async function showSession(place) {
  const answer = await fetch("/session");
  if (answer.status === 401) {
    signIn();
    return;
  }
  if (!answer.ok) return;
  const session = await answer.json();
  if (!session.authentication) return;
  const button = document.createElement("button");
  button.textContent = "Sign out";
  button.addEventListener("click", async () => {
    await fetch("/session", { method: "DELETE" });
    signIn();
  });
  place.replaceChildren(`${session.name} (${session.scopes.join(", ")}) `, button);
}
