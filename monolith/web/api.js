// @ts-check
// Asking the server. A refusal is a Problem with the server's own words; without a valid key it goes to the sign-in.

import { signIn } from "/web/session.js";

export class Problem extends Error {
  /** @param {number} status @param {string} detail @param {string} kind @param {number | null} retryAfter seconds */
  constructor(status, detail, kind, retryAfter) {
    super(detail);
    this.status = status;
    this.kind = kind;
    this.retryAfter = retryAfter;
  }
}

/**
 * @param {string} path @param {RequestInit} [options]
 * @returns {Promise<Response>} one that went well; otherwise a Problem is thrown, or a TypeError where nobody answers
 */
export async function ask(path, options) {
  const answer = await fetch(path, options);
  if (answer.ok) return answer;
  if (answer.status === 401) signIn();
  const body = await answer.json().catch(() => ({}));
  const retry = Number(answer.headers.get("Retry-After"));
  const kind = String(body.type ?? "").split(":").pop() ?? "";
  throw new Problem(answer.status, body.detail ?? `the server answered ${answer.status}`, kind, retry || null);
}

/** @param {string} path @param {object} body @returns {Promise<any>} */
export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return (await ask(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

/** @param {unknown} error @returns {string} for people */
export function words(error) {
  if (error instanceof Problem) return error.message[0].toUpperCase() + error.message.slice(1) + ".";
  if (error instanceof TypeError) return "The server does not answer.";
  return error instanceof Error ? error.message : String(error);
}
