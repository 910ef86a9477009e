"""WebRTC: peers that publish to the program, and what they share with those that watch."""
