// @ts-check
// The figures below the player: how the video, its analysis and this viewer are.

/** @typedef {{frames: number, dropped: number, lost: number, codec: string, width: number, height: number, rate: number}}
 *   Received */

/** @type {Record<string, string>} */
const NAMES = { rtmp: "RTMP", webrtc: "WebRTC", rtsp: "RTSP", hls: "HLS", http: "HTTP" };

/** @param {RTCPeerConnection} peer @returns {Promise<Received | null>} */
export async function receivedBy(peer) {
  const reports = [...(await peer.getStats()).values()];
  const video = reports.find((report) => report.type === "inbound-rtp" && report.kind === "video");
  if (!video) return null;
  const codec = reports.find((report) => report.id === video.codecId)?.mimeType ?? "";
  return {
    frames: video.framesDecoded ?? 0, dropped: video.framesDropped ?? 0, lost: video.packetsLost ?? 0,
    codec: codec.replace("video/", ""), width: video.frameWidth ?? 0, height: video.frameHeight ?? 0,
    rate: video.framesPerSecond ?? 0,
  };
}

/** @param {number | null | undefined} share 0–1 */
const percent = (share) => (share === null || share === undefined ? "not known yet" : `${(share * 100).toFixed(1)} %`);

/** Of a video that goes on. @param {any} video */
function coverageSoFar({ frames_analyzed: analyzed, frames_dropped: dropped }) {
  return analyzed + dropped ? analyzed / (analyzed + dropped) : null;
}

/**
 * @param {any} video @param {Received | null} received @param {any} session @param {import("./results.js").Found} found
 * @param {import("./clocks.js").Clocks} clocks @returns {[string, string][]}
 */
export function figuresOf(video, received, session, found, clocks) {
  /** @type {[string, string][]} */
  const figures = [];
  if (video) {
    const source = video.transport ? ` by ${NAMES[video.transport] ?? video.transport}` : "";
    figures.push(["Video", video.connected ? `live${source}` : video.status]);
    figures.push(["Analysed", `${video.frames_analyzed} frames, ${video.frames_dropped} dropped`]);
    figures.push(["Coverage", percent(video.coverage ?? coverageSoFar(video))]);
  }
  if (received) {
    const { width, height, codec, rate } = received;
    figures.push(["Picture", width ? `${width} × ${height}, ${codec}, ${Math.round(rate)}/s` : "none yet"]);
    figures.push(["Pictures left out", `${session?.pictures_left_out ?? 0} by the server, ${received.dropped} here`]);
  }
  if (clocks.latency !== null) figures.push(["Behind the source", `${Math.round(clocks.latency)} ms`]);
  const results = found.inTime + found.late;
  if (results) figures.push(["Results in time", percent(found.inTime / results)]);
  return figures;
}

/** @param {HTMLElement} list a `dl` @param {[string, string][]} figures */
export function showFigures(list, figures) {
  list.replaceChildren(...figures.map(([name, text]) => {
    const figure = document.createElement("div");
    const [term, value] = [document.createElement("dt"), document.createElement("dd")];
    [term.textContent, value.textContent] = [name, text];
    figure.append(term, value);
    return figure;
  }));
}
