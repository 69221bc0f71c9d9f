"use client";

import { useState } from "react";
import { Siskin } from "siskin";

export default function Page() {
  const [text, setText] = useState("");
  const ask = async () => {
    const siskin = await Siskin.load("/model.gguf");
    await siskin.generate("Once upon a time", { maxTokens: 20 }, { onEvent: ({ text = "" }) => setText((before) => before + text) });
  };
  return (
    <main>
      <button onClick={ask}>Ask</button> <output>{text}</output>
    </main>
  );
}
