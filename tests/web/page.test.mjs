/** The page's pure functions, run by node: `node --test tests/web/`. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  activation,
  certainty,
  heat,
  named,
  percent,
  preferred,
  sentence,
  top,
} from "../../resnet_hub/web/page.js";
import { filled, say, TEXT } from "../../resnet_hub/web/text.js";

const model = {
  labels: [
    { en: "cat", ja: "猫", said: "a cat" },
    { en: "dog", ja: "犬", said: "a dog" },
    { en: "umbrella", ja: "傘", said: "an umbrella" },
  ],
  firm_threshold: 0.7,
  class_thresholds: null,
  named: { most: 3, least_share: 0.25 },
  sentences: {
    firm: { en: "This looks like {first}.", ja: "{first}のようです。" },
    unsure_1: { en: "Perhaps {first}.", ja: "{first}かもしれません。" },
    unsure_2: { en: "Perhaps {first} or {second}.", ja: "{first}か{second}かもしれません。" },
    unfamiliar: { en: "Unknown.", ja: "不明。" },
    unmeasured: { en: "Most likely: {first} ({share})", ja: "{first}（{share}）" },
  },
};

test("the most probable classes come best first", () => {
  assert.deepEqual(top([0.1, 0.7, 0.2], 2), [
    { index: 1, share: 0.7 },
    { index: 2, share: 0.2 },
  ]);
  assert.equal(top([1], 5).length, 1);
});

test("certainty follows the thresholds", () => {
  assert.equal(certainty(false, 0.99, 0.7), "unfamiliar");
  assert.equal(certainty(true, 0.7, 0.7), "firm");
  assert.equal(certainty(true, 0.69, 0.7), "unsure");
  assert.equal(certainty(null, 0.69, 0.7), "unsure");
  assert.equal(certainty(true, 0.99, null), "unmeasured");
});

test("a sentence names what is likely, in both languages", () => {
  const says = (probabilities, familiar, language) => sentence(model, { probabilities, familiar }, language);
  assert.equal(says([0.1, 0.1, 0.8], true, "en"), "This looks like an umbrella.");
  assert.equal(says([0.5, 0.4, 0.1], true, "en"), "Perhaps a cat or a dog.");
  assert.equal(says([0.5, 0.4, 0.1], true, "ja"), "猫か犬かもしれません。");
  assert.equal(says([0.5, 0.4, 0.1], false, "ja"), "不明。");
  assert.equal(
    sentence({ ...model, firm_threshold: null }, { probabilities: [0.5, 0.3, 0.2], familiar: null }, "en"),
    "Most likely: cat (50.0\u00a0%)",
  );
});

test("a network that answers each class by itself names all that reach their thresholds", () => {
  const sentences = {
    present: { en: "This shows: {names}.", ja: "{names}が写っています。" },
    absent: { en: "Nothing known.", ja: "ありません。" },
  };
  const several = { ...model, sentences, class_thresholds: [0.5, 0.2, 0.9] };
  const says = (probabilities, language) => sentence(several, { probabilities, familiar: null }, language);
  assert.equal(says([0.6, 0.7, 0.8], "en"), "This shows: dog, cat.");
  assert.equal(says([0.6, 0.7, 0.8], "ja"), "犬、猫が写っています。");
  assert.equal(says([0.1, 0.1, 0.8], "en"), "Nothing known.");
  assert.equal(named(several, [0.6, 0.7, 0.8], "en"), "dog, cat");
  assert.equal(named(several, [0.1, 0.1, 0.8], "en"), "–");
  assert.equal(named(model, [0.1, 0.1, 0.8], "ja"), "傘");
});

test("a class activation map is scaled to its largest value, negative ones left out", () => {
  assert.deepEqual(activation([9, 9, 9, 9, -1, 0, 1, 2], [2, 2, 2], 1), [0, 0, 0.5, 1]);
  assert.deepEqual(activation([-1, -2], [1, 1, 2], 0), [0, 0]);
  assert.deepEqual(heat(0), [255, 220, 0, 0]);
});

test("texts are filled, and exist in both languages with the same placeholders", () => {
  assert.equal(filled("{a} of {b} {c}", { a: 1, b: "x" }), "1 of x {c}");
  assert.equal(percent(0.1234), "12.3\u00a0%");
  const placeholders = (text) => (text.match(/\{\w+\}/g) ?? []).sort();
  for (const [key, [en, ja]] of Object.entries(TEXT))
    assert.deepEqual(placeholders(en), placeholders(ja), key);
  assert.equal(say("rate", "ja", { rate: 12 }), "毎秒 12 回判定");
});

test("the browser's first known language is taken", () => {
  assert.equal(preferred(["fr", "ja-JP", "en"]), "ja");
  assert.equal(preferred(["fr"]), "en");
});
