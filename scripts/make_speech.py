#!/usr/bin/env python3
"""Speaks the clips of data/speech: short orders to a house, by espeak-ng. Needs espeak-ng, numpy and soundfile.

usage: make_speech.py [FOLDER]      (default: data/speech; made with espeak-ng 1.51, soundfile 0.13)

  clips/*.ogg        what was said, 16 kHz, Vorbis
  speech.jsonl       rows to learn from, in the `messages` format: a clip, and what was said in it
  speech_eval.jsonl  rows to evaluate on: the same words in a voice that is not among those
"""
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "data/speech")
ORDERS = ["Open the window.", "Close the door.", "Turn on the light.", "Turn off the radio.", "Start the kettle.", "Lock the gate.",
          "Water the plants.", "Lower the blinds."]
VOICES = [("en-gb", 150), ("en-us+f3", 140), ("en-gb-scotland", 160)]
UNSEEN = ("en-us+m3", 150)


def speak(text, voice, pace):
    spoken = subprocess.run(["espeak-ng", "-v", voice, "-s", str(pace), "--stdout", text], check=True, capture_output=True).stdout
    samples, rate = soundfile.read(io.BytesIO(spoken), dtype="float32")
    at = np.arange(int(len(samples) * 16000 / rate)) * rate / 16000
    return np.interp(at, np.arange(len(samples)), samples).astype(np.float32)


def main():
    (OUT / "clips").mkdir(parents=True, exist_ok=True)
    for name, voices in [("speech", VOICES), ("speech_eval", [UNSEEN])]:
        rows = []
        for i, order in enumerate(ORDERS):
            for voice, pace in voices:
                file = f"{i + 1}_{voice.replace('+', '_')}.ogg"
                soundfile.write(OUT / "clips" / file, speak(order, voice, pace), 16000, format="OGG", subtype="VORBIS")
                parts = [{"type": "audio", "audio": f"clips/{file}"}, {"type": "text", "text": "Write down what is said."}]
                rows.append({"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": order}]})
        (OUT / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
