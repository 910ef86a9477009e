"""Examples in the API's documentation."""

from __future__ import annotations

import json
from typing import Final

VIDEO_ID: Final = "0197c0de-0000-7000-8000-000000000001"
_BASE: Final = f"http://localhost:8000/analysis/{VIDEO_ID}"

START_BODY: Final = {
    "videoURL": "http://example.org/street.mp4",
    "modelsToRun": ["objects_detection", "color_detection"],
    "videoName": "Street",
    "frameStep": 10,
}

SUBMITTED: Final = {
    "video_id": VIDEO_ID,
    "video_url": "http://example.org/street.mp4",
    "status": "Pending",
    "video_name": "Street",
    "models_to_run": ["objects_detection", "color_detection"],
    "frame_step": 10,
    "status_url": _BASE,
}

RTMP_ENDPOINT_BODY: Final = {"modelsToRun": ["objects_detection"], "videoName": "Door", "frameStep": 3}

RTMP_ENDPOINT: Final = {
    **SUBMITTED,
    "video_url": "rtmp:live",
    "video_name": "Door",
    "models_to_run": ["objects_detection"],
    "frame_step": 3,
    "rtmp_endpoint": "rtmp://localhost:1935/live/AZfA3gAAcACAAAAAAAAAAWvR0YwlmZ2h0ZXItYmVhcmVyLTE4NA",
}

WEBRTC_ENDPOINT_BODY: Final = {"modelsToRun": ["objects_detection"], "videoName": "Door", "frameStep": 3}

WEBRTC_ENDPOINT: Final = {
    **SUBMITTED,
    "video_url": "webrtc:live",
    "video_name": "Door",
    "models_to_run": ["objects_detection"],
    "frame_step": 3,
    "whip_endpoint": f"http://localhost:8000/whip/{VIDEO_ID}",
    "token": "AZfA3gAAcACAAAAAAAAAAWvR0YwlmZ2h0ZXItYmVhcmVyLTE4NA",
}

_ROW: Final = {
    "video_id": VIDEO_ID,
    "frame_number": 10,
    "video_timestamp": 0.333333,
    "inference_start_time": 1764000000.25,
    "inference_time": 0.0101,
    "frames_url": f"{_BASE}/frame/10",
}

ROWS: Final = [
    {
        **_ROW,
        "inference_model": "Color Palette Detection",
        "inference_results": [
            {"color": "#5a6b70", "share": 0.52},
            {"color": "#c9c4b8", "share": 0.31},
            {"color": "#22262a", "share": 0.17},
        ],
    },
    {
        **_ROW,
        "inference_model": "Joy Detection",
        "inference_results": [
            {
                "face_id": 1,
                "coordinates": [210.5, 80.0, 64.25, 71.0],
                "emotion": "happy",
                "probability": 91.2,
                "emotion_probability": 77.4,
            }
        ],
    },
    {
        **_ROW,
        "inference_model": "Object Detection",
        "inference_results": [
            {"label": "car", "probability": 87.31, "coordinates": [12.5, 140.0, 220.75, 96.0]}
        ],
    },
]

ANNOTATED: Final = {
    "video_id": VIDEO_ID,
    "status": "ready",
    "progress": 1.0,
    "frames": 250,
    "url": f"{_BASE}/annotated.mp4?version=0123456789abcdef",
    "error": None,
    "complete": True,
    "start_time": 0.0,
    "duration": 10.0,
    "size_bytes": 1843200,
    "codec": "libx264",
}

METRICS: Final = [
    {"video_id": VIDEO_ID, "metric_name": "Video Ingest Time", "metric_value": 1.25},
    {"video_id": VIDEO_ID, "metric_name": "Frame Resize Time", "metric_value": 0.8},
    {"video_id": VIDEO_ID, "metric_name": "Total Frames Extracted", "metric_value": 250},
]

NDJSON_ROWS: Final = "".join(f"{json.dumps(row, separators=(',', ':'))}\n" for row in ROWS)

_RUN_ID: Final = "0197c0de-0000-7000-8000-000000000002"
_FOUND: Final = {"run_id": _RUN_ID, "frames": 118, "detections": 240, "greatest": 4, "first_time": 0.333333,
                 "last_time": 118.0, "mean_confidence": 0.7123}  # fmt: skip

TIMELINE: Final = {
    "video_id": VIDEO_ID,
    "bucket": 10.0,
    "runs": [{"run_id": _RUN_ID, "models": ["Object Detection", "Joy Detection", "Color Palette Detection"]}],
    "buckets": [
        {
            "time": 0.0,
            "frames": 30,
            "objects": {
                "car": {"detections": 71, "greatest": 4},
                "person": {"detections": 12, "greatest": 1},
            },
            "faces": {"detections": 10, "greatest": 1},
            "emotions": {"happy": 0.7, "neutral": 0.3},
            "colors": [{"color": "#5a6b70", "share": 0.52}, {"color": "#c9c4b8", "share": 0.31}],
        },
        {"time": 10.0, "frames": 30, "objects": {}, "faces": None, "emotions": {}, "colors": []},
    ],
}

SUMMARY: Final = {
    "video_id": VIDEO_ID,
    "video_name": "Street",
    "status": "Completed",
    "first_time": 0.333333,
    "last_time": 119.666667,
    "runs": [
        {
            "run_id": _RUN_ID,
            "models": ["Object Detection", "Joy Detection"],
            "status": "Completed",
            "frame_step": 10,
            "ts": "2026-01-05T10:00:00.000000+00:00",
            "ended": "2026-01-05T10:00:08.000000+00:00",
            "frames_sampled": 360,
            "frames_analyzed": 360,
            "frames_dropped": 0,
            "coverage": 1.0,
            "frames_per_second": 45.0,
        }
    ],
    "models": [
        {
            "model": "Object Detection",
            "run_id": _RUN_ID,
            "frames": 360,
            "seconds": 3.6,
            "shown_from": 0.4,
            "identity": {
                "key": "objects_detection",
                "name": "NanoDet-g 416",
                "version": "1",
                "digest": "0" * 64,
                "precision": "f32",
                "infer_from": "stored",
            },
        }
    ],
    "objects": [{"label": "car", **_FOUND}],
    "faces": {"label": "face", **_FOUND},
    "emotions": [
        {
            "emotion": "happy",
            "run_id": _RUN_ID,
            "frames": 80,
            "detections": 150,
            "share": 0.625,
            "mean_probability": 0.81,
        }
    ],
    "palette": {"run_id": _RUN_ID, "frames": 360, "colors": [{"color": "#5a6b70", "share": 0.48}]},
    "expired_segments": 0,
    "frames_expired": 0,
}

VIEWER: Final = {
    "video_id": VIDEO_ID,
    "codec": "h264",
    "overlay": "none",
    "player_delay_ms": 500,
    "clock_rate": 90000,
    "wall_time": 1767607201.912,
    "clock": {
        "frame_number": 45,
        "video_timestamp": 1.76,
        "rtp_timestamp": 2183568285,
        "wall_time": 1767607201.76,
    },
    "pictures_sent": 48,
    "pictures_left_out": 0,
    "results_left_out": 0,
    "level": "full",
    "reason": "",
    "bit_rate": 2210345,
    "estimated_bit_rate": 3315000,
    "packets_lost": 0.0,
    "packets_resent": 0,
    "keyframe_requests": 0,
}
VIEWER_RESULTS: Final = (
    f'event: hello\ndata: {{"type":"hello","video_id":"{VIDEO_ID}","player_delay_ms":500,"clock_rate":90000}}\n\n'
    'event: results\ndata: {"type":"results","frame_number":45,"video_timestamp":1.76,"rtp_timestamp":2183568285,'
    '"wall_time":1767607201.76,"width":1280,"height":720,"inference_model":"Object Detection","inference_results":'
    '[{"label":"car","probability":91.2,"coordinates":[10.0,20.0,300.0,200.0]}]}\n\n'
)
