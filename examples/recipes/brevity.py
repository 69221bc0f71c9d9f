"""A reward for short answers: reads a JSON object per line, with `prompt`, `completion`, and `answer` if the record has one,
and writes a number for each.
"""
import json
import sys

for line in sys.stdin:
    words = len(json.loads(line)["completion"].split())
    print(1 / max(words, 1))
