// @ts-check
// What WHIP and WHEP share: an offer is posted, the answer taken, candidates are told as they are found, and the session
// is deleted at the end, also when the page goes.

import { ask } from "/web/api.js";

/** @param {string | null} links the answer's `Link` headers @returns {RTCIceServer[]} */
export function iceServers(links) {
  const found = [...(links ?? "").matchAll(/<([^>]+)>;([^<]*)/g)].filter(([, , rest]) => /rel="?ice-server/.test(rest));
  const value = (/** @type {string} */ rest, /** @type {string} */ name) => rest.match(`${name}="([^"]*)"`)?.[1];
  return found.map(([, urls, rest]) => ({ urls, username: value(rest, "username"), credential: value(rest, "credential") }));
}

export class Signalling {
  /** @param {string} address of the session @param {HeadersInit} headers @param {string} tag */
  constructor(address, headers, tag) {
    this.address = address;
    this.headers = headers;
    this.tag = tag;
    this.leave = () => void this.end();
    addEventListener("pagehide", this.leave);
  }

  /**
   * Connects `peer`, whose tracks and channels are there already.
   * @param {RTCPeerConnection} peer @param {string} endpoint path of this server @param {Record<string, string>} [headers]
   */
  static async begin(peer, endpoint, headers = {}) {
    const offer = await peer.createOffer();
    const answer = await ask(endpoint, {
      method: "POST", headers: { ...headers, "Content-Type": "application/sdp" }, body: offer.sdp,
    });
    const id = (answer.headers.get("Location") ?? "").split("/").pop();
    const path = endpoint.split("?")[0];
    const signalling = new Signalling(`${path}/${id}`, headers, answer.headers.get("ETag") ?? "");
    try {
      const text = await answer.text();
      peer.addEventListener("icecandidate", ({ candidate }) => signalling.tell(candidate));
      peer.setConfiguration({ iceServers: iceServers(answer.headers.get("Link")) }); // before anything is gathered
      await peer.setLocalDescription(offer);
      await peer.setRemoteDescription({ type: "answer", sdp: text });
    } catch (error) {
      await signalling.end();
      throw error;
    }
    return signalling;
  }

  /** @param {RTCIceCandidate | null} candidate */
  async tell(candidate) {
    if (!candidate?.candidate) return;
    const body = `a=ice-ufrag:${candidate.usernameFragment}\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\n` +
      `a=mid:${candidate.sdpMid}\r\na=${candidate.candidate}\r\n`;
    const headers = { ...this.headers, "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": this.tag };
    await fetch(this.address, { method: "PATCH", headers, body }).catch(console.warn);
  }

  /** Ends the session on the server. Never throws. */
  async end() {
    removeEventListener("pagehide", this.leave);
    await fetch(this.address, { method: "DELETE", headers: this.headers, keepalive: true }).catch(console.warn);
  }
}
