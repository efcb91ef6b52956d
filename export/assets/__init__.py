"""Published weights of the front end, the same for every bundle; README.md tells their origin."""

from pathlib import Path

SILERO_VAD = Path(__file__).with_name("silero_vad.onnx")
MTCNN = Path(__file__).with_name("mtcnn.safetensors")
