"""OpenAI's own Python client against `siskin serve`: python openai_client.py SISKIN MODEL."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import openai

SISKIN, MODEL = sys.argv[1:3]
ENCODERS = Path(__file__).parent.parent / "fixtures/encoders"
NAME = "smollm2-135m-instruct"
QUESTION = "What is the capital of France?"
ANSWER = "The capital of France is Paris."


class Client(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        bert = shutil.copytree(ENCODERS / "bert", Path(cls.folder.name) / "bert")
        for file in ["tokenizer.json", "tokenizer_config.json"]:
            shutil.copy(ENCODERS / file, bert)
        args = ["serve", MODEL, str(bert), "--port", "0", "--device", "cpu", "--parallel", "2", "--api-key", "secret"]
        cls.server = subprocess.Popen([SISKIN, *args], stdout=subprocess.PIPE, text=True)
        cls.url = re.match(r"listening on (\S+)$", cls.server.stdout.readline())[1]
        cls.client = openai.OpenAI(base_url=cls.url, api_key="secret", max_retries=0)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        cls.server.terminate()
        assert cls.server.wait(30) == 0
        cls.server.stdout.close()
        cls.folder.cleanup()

    def test_chat(self):
        request = {"model": NAME, "messages": [{"role": "user", "content": QUESTION}]}
        whole = self.client.chat.completions.create(**request, logprobs=True, top_logprobs=2)
        self.assertEqual(whole.choices[0].message.content, ANSWER)
        self.assertEqual(whole.choices[0].finish_reason, "stop")
        logprobs = whole.choices[0].logprobs.content
        # All but the token that ends it.
        self.assertEqual(len(logprobs), whole.usage.completion_tokens - 1)
        self.assertEqual(len(logprobs[0].top_logprobs), 2)
        stream = self.client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True})
        chunks = list(stream)
        self.assertEqual("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), ANSWER)
        self.assertEqual(chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)
        with self.client.chat.completions.stream(**request) as events:
            self.assertEqual(events.get_final_completion().choices[0].message.content, ANSWER)

    def test_tools(self):
        parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
        weather = {"name": "get_weather", "description": "Get the weather of a city.", "parameters": parameters}
        tools = [{"type": "function", "function": weather}]
        messages = [{"role": "user", "content": "What is the weather in Paris?"}]
        request = {"model": NAME, "tools": tools, "parallel_tool_calls": False}
        whole = self.client.chat.completions.create(**request, messages=messages, tool_choice="required")
        self.assertEqual(whole.choices[0].finish_reason, "tool_calls")
        [call] = whole.choices[0].message.tool_calls
        self.assertEqual(call.function.name, "get_weather")
        self.assertEqual(json.loads(call.function.arguments), {"city": "Paris"})
        with self.client.chat.completions.stream(**request, messages=messages, tool_choice="required") as events:
            [streamed] = events.get_final_completion().choices[0].message.tool_calls
        self.assertEqual(streamed.function.arguments, call.function.arguments)
        # The message as it came, and the result, are part of the conversation.
        messages += [whole.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "18 degrees, rain"}]
        answer = self.client.chat.completions.create(**request, messages=messages, tool_choice="none", max_tokens=40)
        self.assertTrue(answer.choices[0].message.content)
        self.assertIsNone(answer.choices[0].message.tool_calls)

    def test_completions(self):
        request = {"model": NAME, "prompt": "The capital of France is", "max_tokens": 3}
        whole = self.client.completions.create(**request)
        self.assertIn("Paris", whole.choices[0].text)
        stream = self.client.completions.create(**request, stream=True)
        self.assertEqual("".join(c.choices[0].text for c in stream), whole.choices[0].text)

    def test_responses(self):
        request = {"model": NAME, "input": QUESTION}
        whole = self.client.responses.create(**request, metadata={"a": "b"}, store=False)
        self.assertEqual(whole.output_text, ANSWER)
        self.assertEqual((whole.status, whole.metadata), ("completed", {"a": "b"}))
        events = list(self.client.responses.create(**request, stream=True))
        deltas = [e.delta for e in events if e.type == "response.output_text.delta"]
        self.assertEqual("".join(deltas), ANSWER)
        self.assertEqual([e.sequence_number for e in events], list(range(len(events))))
        self.assertEqual(events[-1].type, "response.completed")
        self.assertEqual(events[-1].response.usage.output_tokens, whole.usage.output_tokens)
        with self.client.responses.stream(**request) as stream:
            self.assertEqual(stream.get_final_response().output_text, ANSWER)

    def test_embeddings(self):
        texts = ["one", "two things"]
        found = self.client.embeddings.create(model="bert", input=texts)
        exact = self.client.embeddings.create(model="bert", input=texts, encoding_format="float")
        for one, other in zip(found.data, exact.data, strict=True):
            self.assertEqual(len(one.embedding), len(other.embedding))
            for a, b in zip(one.embedding, other.embedding):
                self.assertAlmostEqual(a, b, places=5)

    def test_errors(self):
        messages = [{"role": "user", "content": QUESTION}]
        self.assertIn(NAME, [model.id for model in self.client.models.list()])
        with self.assertRaisesRegex(openai.NotFoundError, "there is no model"):
            self.client.chat.completions.create(model="gpt", messages=messages)
        with self.assertRaises(openai.BadRequestError) as refused:
            self.client.chat.completions.create(model=NAME, messages=messages, logit_bias={"5": 101})
        self.assertEqual(refused.exception.param, "logit_bias")
        with self.assertRaisesRegex(openai.BadRequestError, "responses are not stored"):
            self.client.responses.create(model=NAME, input="x", previous_response_id="resp_1")
        with self.assertRaises(openai.AuthenticationError):
            self.client.with_options(api_key="wrong").models.list()


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
