"""Publishers by WHIP: a script for a browser's page, and FFmpeg's muxer in PyAV."""

from __future__ import annotations

import datetime
import json
import sys
import time
from pathlib import Path

import av

PAGE_SCRIPT = """
async function publish(endpoint, token, { width, height } = {}) {
  const media = await navigator.mediaDevices.getUserMedia({ video: { width, height }, audio: true });
  const peer = new RTCPeerConnection();
  for (const track of media.getTracks()) peer.addTransceiver(track, { direction: "sendonly", streams: [media] });
  const found = [], headers = { Authorization: `Bearer ${token}` };
  let session = null, etag = null;
  const tell = (candidate) => fetch(session, {
    method: "PATCH",
    headers: { ...headers, "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": etag },
    body: `a=ice-ufrag:${candidate.usernameFragment}\\r\\nm=video 9 UDP/TLS/RTP/SAVPF 0\\r\\n` +
      `a=mid:${candidate.sdpMid}\\r\\na=${candidate.candidate}\\r\\n`,
  }).then((patched) => { window.patched = patched.status; });
  peer.onicecandidate = ({ candidate }) => {
    if (candidate?.candidate) session ? tell(candidate) : found.push(candidate);
  };
  await peer.setLocalDescription();
  const answer = await fetch(endpoint, {
    method: "POST", headers: { ...headers, "Content-Type": "application/sdp" }, body: peer.localDescription.sdp,
  });
  if (answer.status !== 201) return { status: answer.status, body: await answer.text() };
  session = new URL(answer.headers.get("Location"), endpoint).href;
  etag = answer.headers.get("ETag");
  found.forEach(tell);
  addEventListener("pagehide", () => fetch(session, { method: "DELETE", headers, keepalive: true }));
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
  window.publishing = { peer, session, headers };
  return { status: answer.status, session, etag };
}
async function sent() {
  const reports = [...(await publishing.peer.getStats()).values()];
  const video = reports.find((one) => one.type === "outbound-rtp" && one.kind === "video");
  return {
    state: publishing.peer.connectionState, frames: video?.framesSent ?? 0, width: video?.frameWidth,
    pli: video?.pliCount, codec: reports.find((one) => one.id === video?.codecId)?.mimeType,
  };
}
async function scale(by) {
  const sender = publishing.peer.getSenders().find((one) => one.track.kind === "video");
  const parameters = sender.getParameters();
  parameters.encodings[0].scaleResolutionDownBy = by;
  await sender.setParameters(parameters);
}
"""


def call(function: str, *arguments: object) -> str:
    """A call of one of the page's functions."""
    return f"{function}({', '.join(map(json.dumps, arguments))})"


_QUALITY = "30"
"""FFmpeg sends nothing twice. So two seconds fit into the buffer of a socket, for a program that is held up so long."""


def push(url: str, token: str, clip: Path, seconds: float, folder: Path) -> int:
    """Publish `clip`, again and again, as fast as it plays; how many pictures."""
    options = muxer_options(token, folder)
    with av.open(str(clip)) as source, av.open(url, "w", format="whip", options=options) as target:
        pictures = source.streams.video[0]
        rate = pictures.average_rate
        assert rate is not None
        stream = target.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = pictures.width, pictures.height, "yuv420p"
        stream.options = {
            "profile": "baseline",
            "preset": "ultrafast",
            "tune": "zerolatency",
            "crf": _QUALITY,
        }
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = int(rate), 0
        number, begun = 0, time.monotonic()
        while number < seconds * rate:
            source.seek(0)
            for picture in source.decode(pictures):
                made = picture.reformat(format="yuv420p")
                made.pts, made.time_base = number, 1 / rate
                target.mux(stream.encode(made))
                number += 1
                time.sleep(max(0.0, begun + float(number / rate) - time.monotonic()))
                if number >= seconds * rate:
                    break
        target.mux(stream.encode(None))
    return number


def muxer_options(token: str, folder: Path) -> dict[str, str]:
    """Of FFmpeg's WHIP muxer; `folder`: for a certificate."""
    return {
        "authorization": token,
        "whip_flags": "dtls_active",
        "handshake_timeout": "60000",
        **_certificate(folder),
    }


def _certificate(folder: Path) -> dict[str, str]:
    """Of the kind that FFmpeg's DTLS takes: P-256."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "publisher")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "key.pem").write_bytes(private)
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return {"cert_file": str(folder / "certificate.pem"), "key_file": str(folder / "key.pem")}


if __name__ == "__main__":
    print(push(sys.argv[1], sys.argv[2], Path(sys.argv[3]), float(sys.argv[4]), Path(sys.argv[5])))
