"""Scripts for the program's pages in a browser: what they show, measured in pixels of the picture."""

from __future__ import annotations

from typing import Final

from tests.sign_clip import HEIGHT, WIDTH

MEASURE: Final = """
async function measure() {
  const player = document.querySelector("live-player");
  const { colorOf } = await import("/web/drawing.js");
  const [video, canvas] = [player.querySelector("video"), player.querySelector("canvas")];
  const size = [WIDTH, HEIGHT];
  const scratch = new OffscreenCanvas(...size).getContext("2d", { willReadFrequently: true });
  const boxColor = [1, 3, 5].map((at) => parseInt(colorOf("stop sign").slice(at, at + 2), 16));
  const pixelsOf = (image) => {
    scratch.clearRect(0, 0, ...size);
    scratch.drawImage(image, 0, 0, ...size);
    return scratch.getImageData(0, 0, ...size).data;
  };
  const extent = (data, fits) => {
    const sides = { left: size[0], right: -1, bottom: -1, pixels: 0 };
    for (let y = 150; y < size[1]; y++) {              // below the labels
      for (let x = 0; x < size[0]; x++) {
        const at = 4 * (y * size[0] + x);
        if (!fits(data[at], data[at + 1], data[at + 2], data[at + 3])) continue;
        sides.left = Math.min(sides.left, x);
        sides.right = Math.max(sides.right, x);
        sides.bottom = y;
        sides.pixels++;
      }
    }
    return sides;
  };
  const isRed = (red, green, blue) => red > 130 && green < 90 && blue < 90;
  const isPink = (red, green, blue) => red - green > 60 && blue - green > 35;
  const isBox = (red, green, blue, alpha) => alpha > 200 &&
    Math.abs(red - boxColor[0]) + Math.abs(green - boxColor[1]) + Math.abs(blue - boxColor[2]) < 40;
  const measured = (window.measured = { drawn: [], between: [], pictures: {}, results: [] });
  player.addEventListener("drawn", ({ detail: { rtpTimestamp, found } }) => {
    const shown = found.filter(({ rtp_timestamp }) => rtp_timestamp === rtpTimestamp);
    if (shown.some(({ inference_results }) => inference_results.length)) {
      measured.drawn.push({ sign: extent(pixelsOf(video), isRed), box: extent(pixelsOf(canvas), isBox) });
    }
    if (found.some(({ between, inference_results: [one] }) => between && one)) {
      measured.between.push({ sign: extent(pixelsOf(video), isRed), box: extent(pixelsOf(canvas), isBox) });
    }
    if (player.querySelector(".burned").checked) {
      const picture = pixelsOf(video);
      measured.pictures[rtpTimestamp] = { sign: extent(picture, isRed), box: extent(picture, isPink) };
    }
  });
  const hear = player.hear.bind(player);
  player.hear = (message) => {
    if (message.type === "results") measured.results.push(message);
    hear(message);
  };
  return true;
}
""".replace("WIDTH, HEIGHT", f"{WIDTH}, {HEIGHT}")
"""`measure()` begins. Where the sign and the box lie: `measured.drawn`, of the canvas over pictures with results of
their very own; `measured.between`, over pictures between such; `measured.pictures`, by RTP time, in the picture itself,
where the server draws."""

NOTICE: Final = 'document.querySelector(".notice").textContent'
FIGURES: Final = 'document.querySelector(".figures").textContent'
"""What the player says."""
