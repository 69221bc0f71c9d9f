"""Answers of random models fit random schemas, as jsonschema sees it: python random_schemas.py SISKIN."""

import json
import random
import re
import subprocess
import sys
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jsonschema
import openai

SISKIN = sys.argv[1]
TINY = Path(__file__).parent.parent / "fixtures/tiny"
MODELS = ["llama", "qwen3", "mistral"]
SCHEMAS = 200
# Of random weights, which need not end an answer: the rest are cut.
LEAST_FINISHED = 100


def scalar(rng):
    match rng.randrange(8):
        case 0:
            return {"type": "boolean"}
        case 1:
            return {"type": "null"}
        case 2:
            low = rng.randint(-50, 50)
            return {"type": "integer", "minimum": low, "maximum": low + rng.randint(0, 200)}
        case 3:
            return {"type": "integer", "exclusiveMinimum": rng.randint(-3, 3), "multipleOf": rng.choice([1, 2, 5])}
        case 4:
            return {"type": "number", "minimum": rng.choice([-1.5, 0, 0.25]), "exclusiveMaximum": rng.choice([2, 10.5])}
        case 5:
            return {"enum": rng.sample(["red", "a \"b\"", "ü", 1, 2.5, None, True, ["x"], {"k": 0}], rng.randint(1, 4))}
        case 6:
            return {"type": "string", "pattern": rng.choice(["^[ab]{1,3}$", "^x+y?$", "^\\d\\d-\\d$", "^(on|off)$"])}
        case _:
            low = rng.randint(0, 2)
            return {"type": "string", "minLength": low, "maxLength": low + rng.randint(0, 3)}


def schema(rng, depth):
    kind = rng.randrange(6) if depth else 0
    if kind == 0:
        return scalar(rng)
    if kind == 1:
        low = rng.randint(0, 2)
        return {"type": "array", "items": schema(rng, depth - 1), "minItems": low, "maxItems": low + rng.randint(0, 2)}
    if kind == 2:
        return {"anyOf": [schema(rng, depth - 1) for _ in range(rng.randint(2, 3))]}
    if kind == 3:
        items = [schema(rng, depth - 1) for _ in range(rng.randint(1, 2))]
        return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
    names = rng.sample(["a", "b", "name", "größe", "x y", "$id"], rng.randint(1, 3))
    properties = {name: schema(rng, depth - 1) for name in names}
    required = [name for name in names if rng.random() < 0.7]
    found = {"type": "object", "properties": properties, "required": required}
    found["additionalProperties"] = False if rng.random() < 0.8 else scalar(rng)
    return found


class RandomSchemas(unittest.TestCase):
    def test_answers_fit(self):
        paths = [str(TINY / model) for model in MODELS]
        args = ["serve", *paths, "--port", "0", "--device", "cpu", "--parallel", "8"]
        server = subprocess.Popen([SISKIN, *args], stdout=subprocess.PIPE, text=True)
        try:
            url = re.match(r"listening on (\S+)$", server.stdout.readline())[1]
            with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
                self.ask(client)
        finally:
            server.terminate()
            self.assertEqual(server.wait(30), 0)
            server.stdout.close()

    def ask(self, client):
        def answer(seed):
            rng = random.Random(seed)
            wanted = schema(rng, 3)
            shape = {"type": "json_schema", "json_schema": {"name": "a", "schema": wanted}}
            found = client.completions.create(
                model=MODELS[seed % len(MODELS)], prompt="a", max_tokens=120, temperature=1.5, seed=seed,
                extra_body={"response_format": shape},
            )
            return wanted, found.choices[0]

        finished = 0
        with ThreadPoolExecutor(8) as pool:
            for wanted, choice in pool.map(answer, range(SCHEMAS)):
                self.assertIn(choice.finish_reason, ["stop", "length"])
                if choice.finish_reason == "stop":
                    finished += 1
                    with self.subTest(schema=wanted, text=choice.text):
                        jsonschema.Draft202012Validator(wanted).validate(json.loads(choice.text))
        print(f"{finished} of {SCHEMAS} answers ended by themselves")
        self.assertGreaterEqual(finished, LEAST_FINISHED)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0]])
