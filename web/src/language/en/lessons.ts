// The lessons' texts, which are fetched when one is opened.

import type { Lessons } from "../../lessons/lessons.svelte.js";

export const lessons: Lessons = {
  tokens: {
    title: "How text becomes tokens",
    steps: [
      {
        show: "tokens?text=The%20cat%20sat%20on%20the%20mat.",
        text: "A language model reads numbers, not letters. A tokenizer cuts the text into pieces, the tokens, and each piece has a number in a fixed list, the vocabulary. Each coloured field is one token, with its number. The sign ␣ is a space: with most models, it belongs to the word after it.",
      },
      {
        show: "tokens?text=cat%20catalogue%20unmistakable%20antidisestablishmentarianism",
        text: "Frequent words have a token of their own. Rare ones are put together from several. Compare the four words.",
        question: {
          ask: "Why does a rare word take several tokens?",
          choices: ["It has too many letters for one token.", "It is not in the vocabulary as a whole.", "The model does not know what it means."],
          right: 1,
          because: "The vocabulary was filled with pieces that are frequent. A long word that is frequent enough has a token of its own.",
        },
      },
      {
        text: "Go to “How a word is assembled” and choose the last word. If the model uses BPE, you see a tree: at the bottom single letters, at the top the tokens. Pairs that were frequent in the text that the tokenizer was learned from have been joined, again and again.",
      },
      {
        show: "tokens?text=How%20many%20r%20are%20in%20strawberry%3F%20%F0%9F%90%A6",
        text: "Here is a question that many models answer wrongly. At the end is a bird, which is several tokens with most models: they are bytes, which only make a character together.",
        question: {
          ask: "Why is it hard for a model to count letters?",
          choices: ["It sees the numbers of tokens, not the letters in them.", "It cannot count at all.", "Spaces are in the way."],
          right: 0,
          because: "How a token is spelt is nowhere in its number. The model can only have learned it from texts that spell words out.",
        },
      },
      {
        text: "Now look at the table under “Compare with another tokenizer”: the same sentence in nine languages. You can add the tokenizer of another model, too.",
        question: {
          ask: "Which languages take the most tokens?",
          choices: ["Those with the longest words.", "Those with the most speakers.", "Those of which there was little in the text that the tokenizer was learned from."],
          right: 2,
          because: "For these, it has few long pieces, and falls back on short ones or bytes. Answers in such a language are slower, and less fits the context.",
        },
      },
      {
        text: "Last, the chat template: a conversation is one long text for the model. The framed tokens separate the turns. They are special: text that you type cannot make them in Chat. When the model writes the one that ends a turn, the answer is over.",
      },
    ],
  },
  next: {
    title: "How a model writes",
    steps: [
      {
        show: "inside?prompt=The%20capital%20of%20France%20is&show=next",
        text: "All that a language model computes is how likely each token of its vocabulary is to come next. The bars show the most likely ones after your text.",
      },
      {
        text: "Press “Add the most likely” a few times. Each time, the token is appended to the text, and the model runs again with the longer text. This loop is how every answer is written, one token at a time.",
        question: {
          ask: "What does the model remember between two tokens?",
          choices: ["A plan of the whole answer.", "Nothing but the text so far, and what it computed for it.", "Your earlier conversations."],
          right: 1,
          because: "Each token is computed from the tokens before it. (What was computed for these is kept, the keys and values, but only to save time.)",
        },
      },
      {
        text: "The next token is usually drawn, like a ball from a bag. Move the temperature to 0.3, then to 1.8, and watch the bars.",
        question: {
          ask: "What happens at temperature 0?",
          choices: ["Every token is equally likely.", "The model stops.", "The most likely token is chosen every time."],
          right: 2,
          because: "Low temperatures make likely tokens likelier still. At 0 nothing is left to chance, and the same question gets the same answer.",
        },
      },
      {
        text: "Set the temperature back to 1, and top k to 3. A dashed line shows the cut: everything below it can no longer be drawn. Try top p and min p, too: they cut less where the model is unsure, and more where it is sure.",
      },
      {
        text: "Press “Show the alternatives” and open a few branches. The number at the right is the probability of the whole path: the product of its steps.",
        question: {
          ask: "Always taking the most likely token: is the result the most likely sentence?",
          choices: ["Not necessarily.", "Yes, always.", "Only at temperature 1."],
          right: 0,
          because: "A token that is a little less likely may open the way to a very likely continuation. You may find such a path in the tree.",
        },
      },
      {
        show: "inside?show=surprise",
        text: "The same probabilities tell how much a text surprises the model. Press “Measure” and point at the coloured tokens. The second “capital” is less of a surprise than the first: the model has noticed the pattern. Training makes this surprise smaller, over billions of tokens. That is all that it optimises.",
      },
    ],
  },
  layers: {
    title: "A token’s path through the layers",
    steps: [
      {
        show: "inside?prompt=The%20capital%20of%20France%20is&show=layers",
        text: "This is the model that you have opened, layer by layer, from top to bottom. Each token becomes a vector, a list of numbers. The green line is this vector on its way through the layers. It never gets replaced: each part only adds something to it.",
      },
      {
        text: "There are two kinds of parts. Attention brings in information from other tokens: next to it, you see which tokens it reads most. The MLP works on the token by itself; much of what a model knows is stored in these.",
        question: {
          ask: "Which part could bring “France” to the token “is”?",
          choices: ["The MLP.", "Attention.", "The embedding."],
          right: 1,
          because: "Only attention moves information between tokens. Everything else treats each token as if it were alone.",
        },
      },
      {
        text: "On the right is what the model would predict if it ended after that layer. Wait until it is filled in, and read it from top to bottom.",
        question: {
          ask: "Where does the final answer usually appear?",
          choices: ["In the first layers.", "Right in the middle.", "In the last third of the layers."],
          right: 2,
          because: "The layers before it work out what the answer depends on. Their vectors are not made to be read as words yet.",
        },
      },
      {
        text: "Choose the MLP of layer 1 to switch it off, and see what happens to the probability. Switch it on again, and try one in the middle. Most parts can be missing without much harm: the line goes on, and others make up for it. A few cannot.",
      },
      {
        show: "inside?prompt=The%20capital%20of%20France%20is&show=heads",
        text: "Now attention in detail. Each layer has several heads, and each small picture is one of them: rows are tokens, columns the tokens that they read. The upper right is empty: no token can look into the future. Choose one of the heads named “Previous token”.",
        question: {
          ask: "What does its picture look like?",
          choices: ["A line just beside the diagonal.", "A single dark column.", "A chequerboard."],
          right: 0,
          because: "Each token reads the one before it, so the dark squares lie one step to the left of the diagonal. A dark first column means resting on the first token.",
        },
      },
      {
        show: "inside?prompt=red%20green%20blue%20red%20green%20blue%20red%20green&show=heads",
        text: "This text repeats itself. If your model has heads named “Induction”, choose one, and point at the last “green” in the text below the picture. The head reads the token that followed the earlier “green”: “blue”. This is how a model continues patterns that it has seen only once, a good part of what it can learn from its prompt.",
      },
    ],
  },
  points: {
    title: "Meaning as a place",
    steps: [
      {
        show: "inside?show=embeddings",
        text: "A model can turn a whole text into one vector. Here are eight sentences as points. Point at one of them: a line leads to the nearest other one.",
        question: {
          ask: "Do the sentence about the cat and the one about the kitten share any content words?",
          choices: ["Yes, two.", "Yes, one.", "No."],
          right: 2,
          because: "Only “the” is in both. That they are near each other comes from what they mean, as far as the model has learned it.",
        },
      },
      {
        text: "The vectors have hundreds of numbers, and the picture has two. It shows the two directions in which the texts differ most (principal component analysis). Below the picture you see how much of the differences that is.",
        question: {
          ask: "Two points are close in the picture. Are the texts alike?",
          choices: ["Yes, certainly.", "Perhaps: the list of nearest pairs, which uses all numbers, tells.", "No, the picture is random."],
          right: 1,
          because: "They may differ in directions that the picture leaves out, like two stars that seem close in the sky.",
        },
      },
      {
        text: "Choose “Words” and draw again. Which words are nearest to each other? Often they are of the same kind: countries, cities, the forms of a verb.",
      },
      {
        text: "Add texts of your own, one per line: the same sentence in two languages, a sentence and its opposite. Opposites often are near each other: they are about the same thing, and appear in the same company. Search by meaning works like this: the texts nearest to a question are found. In Chat, siskin uses it to find passages in your files.",
        question: {
          ask: "“I like this film.” and “I do not like this film.”: will they be near each other?",
          choices: ["Probably yes.", "No, they are opposites.", "They get the same vector."],
          right: 0,
          because: "Nearness is mostly about the topic. Whoever searches by meaning must expect it.",
        },
      },
    ],
  },
  train: {
    title: "Teaching a model",
    steps: [
      {
        show: "train",
        text: "A model learns from examples: questions with the answers that you want. Press “Try the sample” to get some about Pip, a bird. You can change them, or write your own.",
      },
      {
        text: "Below the examples, you see one as the model sees it. Coloured tokens are those that are learned.",
        question: {
          ask: "Why are the tokens of the question not learned?",
          choices: ["The model knows them already.", "It is to learn to answer, not to ask.", "They are too short."],
          right: 1,
          because: "For each coloured token, training makes it likelier, given all that stands before it. The question is what stands before.",
        },
      },
      {
        text: "Some examples are held out: the model never learns from them. It is asked about them before and after.",
        question: {
          ask: "What are the held-out examples good for?",
          choices: ["To see whether what was learned carries over to new questions.", "To make training faster.", "To repair mistakes."],
          right: 0,
          because: "A model can learn its examples by heart and still fail on anything else. Then the loss falls, and the held-out loss rises: it overfits.",
        },
      },
      {
        text: "Press “Start”. A step takes some seconds on a processor. The green line is the loss: how surprised the model is by the answers that it should give, on average. It should fall. If the learning rate is too high, it jumps up and down; if there are few steps, little changes.",
      },
      {
        text: "When it has ended, compare the answers before and after, then choose “Use it in Chat” and ask Pip something.",
        question: {
          ask: "Has the model’s file changed?",
          choices: ["Yes, every number in it.", "Yes, its last layer.", "No: what was learned is in small matrices beside it."],
          right: 2,
          because: "This is LoRA. The small matrices, the adapter, are added to the big ones while the model runs. You can download them, and stop using them at any time.",
        },
      },
    ],
  },
};
