// `siskin/interpret`: what the page's views of a model compute, against values of other origin.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Siskin, SiskinError } from "siskin";
import { ablation, assemblyOf, cuts, grow, headScores, lensByPart, logProbability, logitsWithout, mergeTree, pairs, partsOf, project, rankOf, ranking, roleOf, scoreHeads, surprises } from "siskin/interpret";

import { root } from "./server.mjs";

let siskin;
before(async () => {
  siskin = await Siskin.load(join(root, "tests/fixtures/tiny/gemma3"), { context: 64 });
});
after(() => siskin?.unload());

// Rows that are run together are rounded otherwise than by themselves.
const distance = (a, b) => Math.max(...a.map((l, i) => Math.abs(l - b[i])));
const alike = (a, b) => assert.ok(distance(a, b) < 1e-3, `they differ by ${distance(a, b)}`);
const near = (a, b, tolerance = 1e-5) => assert.ok(Math.abs(a - b) <= tolerance, `${a} is not ${b}`);

test("the lens after each layer's MLP is the lens of a trace, which the engine computes in one run", async () => {
  const ids = (await siskin.tokenizer.encode("hello world")).map((t) => t.id);
  const { logitLens } = await siskin.trace(ids, { logitLens: true });
  const found = [];
  for await (const { part, logits } of lensByPart(siskin, ids)) {
    found.push(part && `${part.layer} ${part.kind}`);
    if (part?.kind !== "mlp") continue;
    const { id, logprob } = logitLens[part.layer].at(-1);
    assert.equal(ranking(logits)[0], id);
    near(logProbability(logits, id), logprob);
  }
  assert.deepEqual(found, [undefined, "0 attention", "0 mlp", "1 attention", "1 mlp", "2 attention", "2 mlp"].slice(0, 1 + 2 * siskin.model.nLayers));
});

test("a part is off for one call; an adapter in use is used again afterwards", async () => {
  const prompt = "hello world";
  const whole = await siskin.nextLogits(prompt);
  const off = await logitsWithout(siskin, prompt, [{ layer: 1, kind: "attention" }]);
  assert.ok(distance(off, whole) > 0.1);
  alike(await siskin.nextLogits(prompt), whole);

  await siskin.adapters.add("off", ablation(siskin.model, [{ layer: 1, kind: "attention" }]));
  await siskin.adapters.use("off");
  alike(await siskin.nextLogits(prompt), off);
  alike(await logitsWithout(siskin, prompt, []), whole);
  alike(await siskin.nextLogits(prompt), off);
  await siskin.adapters.use(null);
  alike(await siskin.nextLogits(prompt), whole);

  assert.throws(() => ablation(siskin.model, [{ layer: 9, kind: "mlp" }]), (e) => e instanceof SiskinError && /no part `mlp` in a layer 9/.test(e.message));
  const biased = [["self_attn.o_proj.weight", [8, 8]], ["self_attn.o_proj.bias", [8]], ["mlp.down_proj.weight", [8, 8]]];
  const model = (tensors) => ({ nLayers: 1, tensors: tensors.map(([name, shape]) => ({ name: `model.layers.0.${name}`, shape })) });
  assert.throws(() => partsOf(model(biased)), /`model\.layers\.0\.self_attn\.o_proj\.weight` has a bias/);
  assert.throws(() => partsOf(model(biased.slice(2))), /layer 1 of this model has no attention/);
});

test("scores of heads, of maps that are made by hand", () => {
  const ids = [7, 8, 9, 7, 8, 9];
  const n = ids.length;
  const head = (target) => ids.flatMap((_, query) => ids.map((_, key) => Number(key === target(query))));
  const tokens = ids.map((id) => ({ id, piece: "", start: 0, end: 0, special: false }));
  const attention = [[], Float32Array.from([...head((q) => Math.max(q - 1, 0)), ...head(() => 0), ...head((q) => (q < 3 ? 0 : q - 2)), ...head((q) => q)])];
  const scores = headScores({ tokens, attention, nHeads: 4 });
  assert.deepEqual(scores.map(({ layer, head, previous, first, induction }) => [layer, head, previous, first, induction]), [
    [1, 0, 1, 0, 0],
    [1, 1, 0, 1, 0],
    [1, 2, 0, 0.25, 1],
    [1, 3, 0, 0, 0],
  ]);
  assert.deepEqual(scores.map(roleOf), ["previous", "first", "induction", undefined]);
  const once = headScores({ tokens: tokens.slice(0, 3), attention: [new Float32Array(9)], nHeads: 1 });
  assert.equal(once[0].induction, undefined);
});

test("a model's heads are scored on the same tokens each time", async () => {
  const scores = await scoreHeads(siskin);
  assert.equal(scores.length, siskin.model.nLayers * siskin.model.nHeads);
  assert.deepEqual(await scoreHeads(siskin), scores);
  for (const { previous, first, induction } of scores) for (const s of [previous, first, induction]) assert.ok(s >= 0 && s <= 1.0001);
});

test("the surprise of a text is what a trace gives its tokens", async () => {
  const tokens = await siskin.tokenizer.encode("hello world");
  const { top } = await siskin.trace("hello world", { topK: siskin.model.vocabSize });
  const found = [];
  for await (const s of surprises(siskin, tokens)) found.push(s);
  assert.deepEqual(found.map((s) => s.index), tokens.slice(1).map((_, i) => i + 1));
  for (const { index, bits, rank, expected } of found) {
    const own = top[index - 1].findIndex((t) => t.id === tokens[index].id);
    near(bits, -top[index - 1][own].logprob / Math.log(2), 1e-4);
    assert.equal(rank, own);
    assert.equal(expected, top[index - 1][0].id);
  }
});

test("the tree's probabilities multiply to those of whole continuations", async () => {
  const ids = (await siskin.tokenizer.encode("hello")).map((t) => t.id);
  const [first, second] = await grow(siskin, ids, undefined, 2);
  assert.ok(first.logprob >= second.logprob);
  const [after] = await grow(siskin, ids, second, 1);
  const { top } = await siskin.trace([...ids, ...second.ids], { topK: siskin.model.vocabSize });
  const given = (place, id) => top[place].find((t) => t.id === id).logprob;
  assert.deepEqual(after.ids, [second.ids[0], top.at(-1)[0].id]);
  near(after.total, given(ids.length - 1, after.ids[0]) + given(ids.length, after.ids[1]), 1e-4);
});

test("merges as a tree", () => {
  const leaf = (piece, place) => ({ piece, step: 0, place, parts: [] });
  const steps = [["a", "b", "a", "b", "c"], ["ab", "ab", "c"], ["ab", "abc"]];
  assert.deepEqual(mergeTree({ word: "ababc", steps }), [
    { piece: "ab", step: 1, place: 0, parts: [leaf("a", 0), leaf("b", 1)] },
    { piece: "abc", step: 2, place: 1, parts: [{ piece: "ab", step: 1, place: 1, parts: [leaf("a", 2), leaf("b", 3)] }, leaf("c", 4)] },
  ]);
  assert.deepEqual(mergeTree({ word: "<|end|>", steps: [["<|end|>"]] }), [leaf("<|end|>", 0)]);
  assert.deepEqual(mergeTree({ word: "", steps: [] }), []);
});

test("how a tokenizer assembles words, by what it does", async () => {
  assert.equal(await assemblyOf(siskin.tokenizer), "bpe");
  const bert = await Siskin.inspect(join(root, "tests/fixtures/encoders/bert/model.gguf"));
  assert.equal(await assemblyOf(bert.tokenizer), "wordPiece");
  bert.close();
  // No model among the fixtures has a Unigram tokenizer.
  const merges = async (text) => text.split(" ").map((word) => ({ word, steps: [["▁", ...word]] }));
  assert.equal(await assemblyOf({ merges }), "unigram");
  assert.equal(await assemblyOf({ merges: async () => [] }), undefined);
});

// Lindsay I. Smith, "A tutorial on Principal Components Analysis" (2002), section 3.1.
test("principal components, against published ones; pairs by angle", () => {
  const data = [[2.5, 2.4], [0.5, 0.7], [2.2, 2.9], [1.9, 2.2], [3.1, 3.0], [2.3, 2.7], [2, 1.6], [1, 1.1], [1.5, 1.6], [1.1, 0.9]];
  const published = [-0.82797019, 1.77758033, -0.99219749, -0.27421042, -1.67580142, -0.9129491, 0.09910944, 1.14457216, 0.43804614, 1.22382056];
  const { points, explained } = project(data);
  points.forEach(({ x }, i) => near(x, published[i], 1e-7));
  near(explained[0], 1.28402771 / (1.28402771 + 0.0490833989), 1e-7);
  near(explained[0] + explained[1], 1, 1e-9);
  // The distances of points that lie in a plane stay.
  const [a, b] = [points[0], points[1]];
  near(Math.hypot(a.x - b.x, a.y - b.y), Math.hypot(2, 1.7), 1e-9);
  assert.deepEqual(project([[1, 2, 3]]), { points: [{ x: 0, y: 0 }], explained: [0, 0] });

  // Around their mean, (1, 1), these are opposite, or at right angles.
  const square = pairs([[2, 1], [0, 1], [1, 2], [1, 0]]);
  assert.deepEqual(square.map(({ a, b, similarity }) => [a, b, Math.round(similarity)]).sort(), [[0, 1, -1], [0, 2, 0], [0, 3, 0], [1, 2, 0], [1, 3, 0], [2, 3, -1]]);
  assert.equal(Math.round(square.at(-1).similarity), -1);
});

test("what sampling settings leave", () => {
  const logits = Float32Array.from([0.5, 0.25, 0.125, 0.125].map(Math.log));
  const left = (settings) => cuts(logits, ranking(logits), { temperature: 1, topK: 0, topP: 1, minP: 0, ...settings });
  near(left({}).mass, 1);
  assert.equal(left({ topK: 2 }).kept, 2);
  assert.equal(left({ topP: 0.75 }).kept, 2);
  assert.equal(left({ minP: 0.3 }).kept, 2);
  assert.equal(left({ topP: 0.7, topK: 2 }).kept, 2);
  assert.deepEqual(Array.from(left({ temperature: 0 }).probabilities), [1, 0, 0, 0]);
  near(left({ temperature: 0.5 }).probabilities[0], 0.25 / (0.25 + 0.0625 + 2 * 0.015625));
  // Ties go to the lower id; signs and zeros are in order.
  const mixed = Float32Array.from([-1, 3, -0.5, 3, 0, 1e-30, -1e30, 2.5, -1e-30]);
  assert.deepEqual([...ranking(mixed)], [1, 3, 7, 5, 4, 8, 2, 0, 6]);
  const many = Float32Array.from({ length: 5000 }, (_, i) => Math.fround(10 * Math.sin(i * i)));
  assert.deepEqual([...ranking(many)], [...many.keys()].sort((a, b) => many[b] - many[a] || a - b));
  near(logProbability(logits, 1), Math.log(0.25));
  assert.equal(rankOf(logits, 1), 1);
});
