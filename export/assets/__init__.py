"""Published weights of the detectors, the same in every bundle; README.md has their origin."""

from pathlib import Path

SILERO_VAD = Path(__file__).with_name("silero_vad.onnx")
MTCNN = Path(__file__).with_name("mtcnn.safetensors")
