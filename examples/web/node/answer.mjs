// node answer.mjs MODEL QUESTION: an answer as JSON that fits a schema.
import { Siskin } from "siskin";

const [source, question = "Which country is Paris in?"] = process.argv.slice(2);
const siskin = await Siskin.load(source);
const schema = {
  type: "object",
  properties: { answer: { type: "string", maxLength: 40 }, isCertain: { type: "boolean" } },
  required: ["answer", "isCertain"],
  additionalProperties: false,
};
const { choices } = await siskin.chat.completions.create({
  messages: [{ role: "user", content: question }],
  response_format: { type: "json_schema", json_schema: { name: "answer", schema } },
});
console.log(JSON.parse(choices[0].message.content));
siskin.unload();
