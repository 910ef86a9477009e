"""Packets of sources that the program reads itself (RTSP, live HLS and HTTP), from their decoder process to viewers."""
